"""What `fastgan train --data` and `Trainer(data=...)` take."""

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from fastgan import own_code
from fastgan.data.data_set import DataSet
from fastgan.data.paired import paired, silhouettes, with_silhouette
from fastgan.data.sources.archives import tar_files, zip_files
from fastgan.data.sources.arrays import SUFFIXES, array_file
from fastgan.data.sources.decode import Alpha, Crop, Fit, Resize
from fastgan.data.sources.digits import stacked_digits
from fastgan.data.sources.encoded import WORKERS, Files, encoded
from fastgan.data.sources.fashion import fashion_mnist
from fastgan.data.sources.folder import folder_files
from fastgan.data.sources.hugging_face import PREFIX, dataset_files, hub_files, is_saved, saved_files
from fastgan.data.sources.tensor_data import TensorData
from fastgan.data.sources.torch_data import of_torch
from fastgan.data.sources.toys import grid, ring, swiss_roll

IMAGES: Mapping[str, Callable[..., DataSet]] = {  # of any size
    "fashion": fashion_mnist,
    "fashion_edges": lambda **size: paired(fashion_mnist(**size), "edges"),
    "fashion_low_resolution": lambda **size: paired(fashion_mnist(**size), "low_resolution"),
    "fashion_silhouettes": lambda **size: silhouettes(fashion_mnist(**size)),
    "fashion_with_silhouette": lambda **size: with_silhouette(fashion_mnist(**size)),
}
FIXED: Mapping[str, Callable[[], DataSet]] = {  # in shape
    "ring": ring,
    "ring_wgan_gp": partial(ring, "wgan_gp"),
    "ring_unrolled": partial(ring, "unrolled"),
    "ring_presgan": partial(ring, "presgan"),
    "grid": grid,
    "grid_wgan_gp": partial(grid, "wgan_gp"),
    "swiss_roll": swiss_roll,
    "digits": stacked_digits,
}


FORMS = {  # what a text may be, and what it means
    "NAME": "a data set that is built in: " + ", ".join((*IMAGES, *FIXED)),
    "ring:modes=12": "a toy with numbers of your own: the arguments of data.ring and data.grid, with commas",
    "FOLDER": "images, flat or with a sub-folder for each class; .tar shards; or what `save_to_disk` wrote",
    "FILE.zip": "images, with labels in dataset.json as StyleGAN's tools write them, or in folders",
    "FILE.tar": "a shard of WebDataset; several: shard-{000..009}.tar",
    "FILE.npy, .npz": "samples of NumPy, with labels in an .npz",
    "FILE.pt, .pth": "a tensor, a pair of samples and labels, or a dict of both",
    "hf:NAME": "a data set of Hugging Face's `datasets`; another split than train: hf:NAME:SPLIT",
    "module:function": "what a Python function of your own returns: anything that `Trainer(data=...)` takes",
}
OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def names() -> tuple[str, ...]:
    """The names that `load` takes."""
    return (*IMAGES, *FIXED)


def forms() -> str:
    """The texts that `load` takes, as a table."""
    return "\n".join(f"{form:<17}{meaning}" for form, meaning in FORMS.items())


def load(
    source: str | Path,
    resolution: int | None = None,
    channels: int | None = None,
    skip_broken: bool = False,
    *,
    resize: Resize = "bicubic",
    crop: Crop = "center",
    alpha: Alpha = "drop",
    cache: Path | str | None = None,
    workers: int = WORKERS,
    links: bool = False,
) -> DataSet:
    """The data set that a text means: one of `names()`, a folder, a file, "hf:NAME" or "module:function", as in
    docs/data.md.

    Without a size: garments have 28 pixels and 1 channel; images of files 64 pixels and 3 channels, and one more with
    alpha="keep". A folder that has the name of a data set is given as a path: ./ring.
    For images of files: resize, crop and alpha as in Fit; skip_broken, cache and workers as in image_folder; links: of
    a folder, also follow links that lead out of the folder.
    Errors: FileNotFoundError if `source` is neither; ValueError for a size that the data set does not have.
    """
    text = str(source)
    given = {name: value for name, value in (("resolution", resolution), ("channels", channels)) if value is not None}
    if text in IMAGES:
        return IMAGES[text](**given)
    if (files := files_of(source, links)) is not None:
        size: dict[str, int] = {"channels": 4 if alpha == "keep" else 3, **given}
        fit = Fit(**size, resize=resize, crop=crop, alpha=alpha)
        return encoded(files, fit, skip_broken=skip_broken, cache=cache, workers=workers)
    if (toy := FIXED.get(text) or _toy(text)) is not None:
        data = toy()
    elif Path(source).suffix in SUFFIXES and Path(source).is_file():
        data = array_file(source)
    elif is_own(text):
        data = _own(text)
    elif not Path(source).exists():
        raise FileNotFoundError(
            f"{source}: there is no such folder or file, nor a data set of that name; data sets are"
            f" {', '.join(names())}; other forms are {', '.join(list(FORMS)[1:])}"
        )
    else:
        raise ValueError(f"{source}: is a file of no known form; the forms are {', '.join(list(FORMS)[1:])}")
    own = {"resolution": data.shape[-1], "channels": data.shape[0]} if len(data.shape) == 3 else {}
    if others := [name for name, value in given.items() if own.get(name) != value]:
        raise ValueError(
            f"{' and '.join(others)} cannot be chosen for {source}: its samples have the shape {tuple(data.shape)}"
        )
    return data


def files_of(source: str | Path, links: bool = False) -> Files | None:
    """The encoded images that a text of `load` means, or None if it means something else."""
    text, path = str(source), Path(source)
    if text in names():
        return None
    if text.startswith(PREFIX):
        return hub_files(text)
    if text.lower().endswith(".tar") and not path.is_dir():
        return tar_files(source)
    if path.is_dir():
        if is_saved(path):
            return saved_files(path)
        return tar_files(path) if next(path.glob("*.tar"), None) else folder_files(path, links)
    return zip_files(path) if path.suffix.lower() == ".zip" and path.is_file() else None


def is_own(source: str) -> bool:
    """Whether a text is a function, "module:function"."""
    return OWN.fullmatch(source) is not None and not source.startswith(PREFIX) and not Path(source).exists()


def as_data(
    data: "torch.Tensor | np.ndarray | DataSet | Dataset[Any] | DataLoader[Any] | str | Path",
) -> DataSet:
    """Anything to train on as a data set of this package: a tensor or NumPy array; a torch Dataset, IterableDataset or
    DataLoader; a datasets.Dataset; or a text or path, as `load` takes it.

    Errors: TypeError for anything else.
    """
    if isinstance(data, (torch.Tensor, np.ndarray)):
        return TensorData(data)
    if isinstance(data, (str, Path)):
        return load(data)
    if all(hasattr(data, name) for name in ("batch", "shape", "classes", "__len__")) and not _is_table(data):
        return data  # type: ignore[return-value]
    if isinstance(data, (Dataset, DataLoader)):
        return of_torch(data)
    if _is_table(data):
        return encoded(dataset_files(data), Fit())
    raise TypeError(
        "data must be a tensor or NumPy array, a torch Dataset or DataLoader, a path, or have len(), .shape, .classes"
        f" and .batch(indices) as fastgan.data says; got {type(data).__name__}"
    )


def _is_table(data):
    """Whether an object is of Hugging Face's `datasets`, which need not be installed."""
    return type(data).__module__.partition(".")[0] == "datasets"


def _own(source):
    allowed = "data must be a name, a path, hf:NAME or module:function"
    return as_data(own_code.call(source, "fastgan.data", allowed, "data"))


def _toy(text):
    """The maker of a toy with arguments, or None if the text does not begin with a toy's name and a colon."""
    name, colon, arguments = text.partition(":")
    toy = {"ring": ring, "grid": grid}.get(name) if colon else None
    if toy is None:
        return None
    known, given = inspect.signature(toy).parameters, {}
    for part in arguments.split(","):
        argument, equals, value = part.partition("=")
        if argument not in known or not equals:
            raise ValueError(
                f"{text}: must be {name}:argument=value, with commas; the arguments are {', '.join(known)}"
            )
        given[argument] = _number(value)
    return partial(toy, **given)


def _number(text):
    """An int, a float, or the text itself, which is a preset."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
