"""Data sets of Hugging Face's `datasets`."""

from pathlib import Path
from typing import Any

from fastgan.data.sources.encoded import Files
from fastgan.extras import require

PREFIX = "hf:"


def is_saved(path: Path) -> bool:
    """Whether a folder is what `save_to_disk` writes."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def saved_files(path: Path | str) -> Files:
    """The images of a folder that `Dataset.save_to_disk` wrote; of several splits, "train"."""
    return dataset_files(require("datasets", "data").load_from_disk(str(path)), path)


def hub_files(source: str) -> Files:
    """The images of "hf:NAME" or "hf:NAME:SPLIT": a name on a hub, or a folder that `datasets` reads, split "train".

    Errors: ValueError, FileNotFoundError with the library's reason, for what cannot be found or reached.
    """
    name, _, split = source.removeprefix(PREFIX).partition(":")
    datasets = require("datasets", "data")
    if not name:
        raise ValueError(f"{source}: has no name; write hf:NAME or hf:NAME:SPLIT")
    try:
        found = datasets.load_dataset(name, split=split or "train")
    except FileNotFoundError:
        raise
    except Exception as error:  # of the hub, of the network, of the library
        reason = " ".join(str(error).split())
        raise ValueError(f"{source}: cannot be loaded by `datasets`: {reason:.300}") from None
    return dataset_files(found, source)


def dataset_files(dataset: Any, source: Any = "datasets.Dataset") -> Files:
    """The images of a datasets.Dataset: its first column of images, and its first column of class labels.

    Errors: ValueError without a column of images, or without a split "train".
    """
    datasets = require("datasets", "data")
    if isinstance(dataset, datasets.DatasetDict):
        if "train" not in dataset:
            raise ValueError(f"{source}: has the splits {', '.join(dataset)}, not train: write hf:NAME:SPLIT")
        dataset = dataset["train"]
    columns = dataset.features
    image = next((name for name, kind in columns.items() if isinstance(kind, datasets.Image)), None)
    label = next((name for name, kind in columns.items() if isinstance(kind, datasets.ClassLabel)), None)
    if image is None:
        raise ValueError(
            f"{source}: has no column of images among {', '.join(columns)}; one is made by"
            " dataset.cast_column(name, datasets.Image())"
        )
    encoded = dataset.cast_column(image, datasets.Image(decode=False)).with_format(None)

    def read(index):
        found = encoded[index][image]
        return Path(found["path"]) if found["bytes"] is None else found["bytes"]

    names = [f"{source}[{index}]" for index in range(len(encoded))]
    stamp = [str(source), encoded._fingerprint]
    if label is None:
        return Files(source, names, read, stamp)
    labels = list(encoded.select_columns(label)[label])
    return Files(source, names, read, stamp, labels, columns[label].names)
