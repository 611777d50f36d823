"""torch's Datasets and DataLoaders."""

import random
import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, default_collate, default_convert

from fastgan import processes, randomness
from fastgan.data.sources.tensor_data import TensorData

IMAGE = ("image", "images", "img", "pixel_values", "x", "data", "sample", "jpg", "png")
LABEL = ("label", "labels", "y", "target", "targets", "cls", "class")
LOOKED_AT = 8  # samples from which range and layout are judged
HELD = 1024  # samples of a stream that are kept for pictures and observations

Sample = tuple[torch.Tensor, int | None]


class NoResume(UserWarning):
    """A stream of samples cannot go on in the middle."""


class MapData:
    """A torch Dataset with a length, as a data set.

    dataset[i]: a tensor or array, as TensorData takes one sample; a pair of it and a label; or a dict with one of
    IMAGE, and one of LABEL if there are labels. Classes are dataset.classes, or the numbers up to the highest of
    dataset.targets; without both the labels are left out, with a warning. workers: processes that make batches.
    The dataset's own random numbers (torch's, NumPy's, Python's) follow from the indices of the batch, so that random
    transforms are the same after a resume and for any number of workers.
    """

    def __init__(self, dataset: Any, workers: int = 0) -> None:
        if len(dataset) == 0:
            raise ValueError(f"data ({type(dataset).__name__}) has no samples")
        self.dataset, self.workers = dataset, workers
        spread = torch.linspace(0, len(dataset) - 1, LOOKED_AT).long().unique().tolist()
        found = [sample_of(dataset[row], dataset) for row in spread]
        self.shape = checked(found)
        self.classes = None if found[0][1] is None else _classes(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        rows = indices.tolist()
        several = getattr(self.dataset, "__getitems__", None)
        with _seeded(rows):
            found = several(rows) if several else [self.dataset[row] for row in rows]
        return stacked([sample_of(item, self.dataset) for item in found], self.classes)


class StreamData:
    """A torch IterableDataset, as a data set. A stream has no places, so a run cannot resume in the middle of it: a
    resumed run begins at the start of an epoch, with a warning.

    `stream` gives the batches of a run; `batch` gives the first HELD samples, which pictures and observations look at.
    An epoch has the seed of its number; `set_epoch` of the dataset is called, if there is one.
    """

    replacement = True  # an order of places would be drawn in vain

    def __init__(self, dataset: Any, workers: int = 0) -> None:
        self.dataset, self.workers = dataset, workers
        self.held = list(islice(self._epoch(0), HELD))
        if not self.held:
            raise ValueError(f"data ({type(dataset).__name__}) has no samples")
        self.shape = checked(self.held)
        self.classes = None if self.held[0][1] is None else _classes(dataset)
        warnings.warn(
            f"data ({type(dataset).__name__}) is a stream: a run that resumes begins at the start of an epoch",
            NoResume,
            stacklevel=3,
        )

    def __len__(self) -> int:
        return len(self.held)

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return stacked([self.held[row] for row in indices.tolist()], self.classes)

    def stream(
        self, updates: Iterable[torch.Tensor]
    ) -> Generator[tuple[torch.Tensor, torch.Tensor | None], None, None]:
        """A batch as long as each tensor of `updates`, from the start of an epoch on.

        Errors: ValueError in one of several processes, which would all see the same samples.
        """
        if processes.world() > 1:
            raise ValueError("a stream cannot be shared by several processes: use a Dataset with a length")
        samples = chain.from_iterable(map(self._epoch, count()))
        for indices in updates:
            yield stacked(list(islice(samples, len(indices))), self.classes)

    def _epoch(self, number: int) -> Iterator[Sample]:
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(number)
        seed = torch.Generator().manual_seed(number)
        loader = DataLoader(self.dataset, None, num_workers=self.workers, generator=seed, collate_fn=_as_it_is)
        found = (sample_of(item, self.dataset) for item in loader)
        if (first := next(found, None)) is None:
            raise ValueError(f"data ({type(self.dataset).__name__}) has no samples in epoch {number}")
        return chain([first], found)


def of_torch(data: Any) -> MapData | StreamData:
    """A Dataset, IterableDataset or DataLoader as a data set.

    Of a DataLoader the dataset and num_workers are taken. Order and batch size are the recipe's, so that a run resumes
    anywhere. Errors: ValueError for a sampler, collate_fn or batches of its own, which would be lost.
    """
    workers = 0
    if isinstance(data, DataLoader):
        workers = data.num_workers
        _check_loader(data)
        data = data.dataset
    return StreamData(data, workers) if isinstance(data, IterableDataset) else MapData(data, workers)


def sample_of(item: Any, dataset: object) -> Sample:
    """A sample (*shape) and its label or None. Errors: TypeError for what is neither of the forms of MapData."""
    label = None
    if isinstance(item, Mapping):
        name = next((name for name in IMAGE if name in item), None)
        if name is None:
            raise TypeError(
                f"data ({type(dataset).__name__}): a sample has the entries {', '.join(map(str, item))};"
                f" the image must be one of {', '.join(IMAGE)}"
            )
        sample, label = item[name], next((item[name] for name in LABEL if name in item), None)
    elif isinstance(item, (tuple, list)) and 1 <= len(item) <= 2:
        sample, label = item[0], item[1] if len(item) == 2 else None
    else:
        sample = item
    if isinstance(sample, np.ndarray):
        sample = torch.from_numpy(sample)
    if not isinstance(sample, torch.Tensor):
        raise TypeError(
            f"data ({type(dataset).__name__}): a sample must be a tensor, a pair (tensor, label) or a dict of both; got"
            f" {type(sample).__name__}. For PIL images give the dataset a transform, as torchvision's PILToTensor()"
        )
    return sample, None if label is None else int(label)


def checked(found: Sequence[Sample]) -> tuple[int, ...]:
    """The shape of all, with TensorData's errors and warnings."""
    return TensorData(_joined(found)).shape


def stacked(found: Sequence[Sample], classes: Sequence[str] | None) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A batch."""
    samples = _joined(found)
    samples = samples / 127.5 - 1 if samples.dtype == torch.uint8 else samples.float()
    return samples, None if classes is None else torch.tensor([label for _, label in found])


def _joined(found):
    shapes = sorted({tuple(sample.shape) for sample, _ in found})
    if len(shapes) > 1:
        raise ValueError(f"samples must have one shape, got {shapes[0]} and {shapes[1]}: resize them in the dataset")
    return torch.stack([sample for sample, _ in found])


@contextmanager
def _seeded(rows):
    """Global random numbers that follow from `rows`; the caller's are restored."""
    python, numpy = random.getstate(), np.random.get_state()
    seed = randomness.derive(0, f"samples {rows}")
    with randomness.global_seed(seed, "samples"):
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _classes(dataset):
    """Names, or None with a warning."""
    while not hasattr(dataset, "classes") and not hasattr(dataset, "targets") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset  # a Subset's
    if names := getattr(dataset, "classes", None):
        return tuple(map(str, names))
    if (targets := getattr(dataset, "targets", None)) is not None:
        return tuple(map(str, range(int(torch.as_tensor(targets).max()) + 1)))
    warnings.warn(
        f"data ({type(dataset).__name__}) has labels and does not say how many classes: the labels are left out; give"
        " the dataset an attribute `classes`, a list of names",
        stacklevel=4,
    )
    return None


def _as_it_is(item):
    return item


def _check_loader(loader):
    usual = ("RandomSampler", "SequentialSampler", "_InfiniteConstantSampler", "DistributedSampler")
    if type(loader.sampler).__name__ not in usual:
        raise ValueError(f"data: the order of a run is the recipe's, and {type(loader.sampler).__name__} would be lost")
    if loader.batch_size is None and not isinstance(loader.dataset, IterableDataset):
        raise ValueError("data: a dataset of whole batches has no samples to choose; give a dataset of samples")
    if loader.collate_fn not in (default_collate, default_convert):
        raise ValueError("data: a collate_fn would be lost, since samples are joined here; put it into the dataset")
