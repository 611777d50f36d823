"""Images that lie encoded in files: folders, archives, tables."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from fastgan.data.cache import cached
from fastgan.data.sources.decode import Fit, ImageError, decode
from fastgan.data.sources.listing import because, check_classes, warn_of_skipped
from fastgan.data.sources.tensor_data import TensorData

THREADS = 4  # PIL decodes and resamples outside of Python's lock
WORKERS = 2


class Files:
    """Encoded images: their names, and how to read one.

    source: the name of all. names: one a file. read(index) -> the file's bytes, or its path. stamp: plain values that
    change with the files. labels, classes: as in a data set. skipped: {reason: number} of what was left out.
    """

    def __init__(
        self,
        source: Path | str,
        names: Sequence[str],
        read: Callable[[int], bytes | Path],
        stamp: Any,
        labels: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        skipped: Mapping[str, int] | None = None,
    ) -> None:
        self.source, self.names, self.read, self.stamp = str(source), names, read, stamp
        self.labels, self.classes, self.skipped = labels, classes, Counter(skipped)
        if not names:
            raise ValueError(f"{source}: has no images{because(self.skipped)}")

    def open(self, index: int) -> Path | BytesIO:
        """What PIL opens."""
        found = self.read(index)
        return BytesIO(found) if isinstance(found, bytes) else found


class EncodedImages:
    """Images that are decoded when a batch needs them."""

    workers = WORKERS  # decoding goes on while the networks train

    def __init__(self, files: Files, fit: Fit) -> None:
        self.files, self.fit, self.shape = files, fit, fit.shape
        self.classes = tuple(files.classes) if files.classes else None
        self.labels = None if files.labels is None else torch.tensor(files.labels)
        self.indices: Sequence[int] = range(len(files.names))  # of the files that are taken
        self.skipped = Counter(files.skipped)

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        samples = self.decode(indices.tolist()) / 127.5 - 1
        return samples, None if self.labels is None else self.labels[indices]

    def decode(self, indices: Sequence[int]) -> torch.Tensor:
        """uint8 (B, *shape)"""
        pixels = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        self._fill(pixels, indices)
        return pixels

    def in_memory(self) -> TensorData:
        """All, decoded now."""
        return self._known_as(self.decode(range(len(self))))

    def in_file(self, folder: Path | str) -> TensorData:
        """All, decoded into a file of `folder` that is mapped into memory; read if the folder has the file."""
        about = {"files": self.files.stamp, "fit": self.fit.as_dict(), "taken": list(self.indices)}
        return self._known_as(cached(folder, about, (len(self), *self.shape), self._fill_all))

    def leave_out_broken(self) -> None:
        """Decode each image once, and forget those that cannot be decoded. Errors: ValueError if a class has none
        left."""
        with _threads() as each:
            whole = [index for index, fine in enumerate(each(self._is_whole, range(len(self)))) if fine]
        broken = len(self) - len(whole)
        if not broken:
            return
        if not whole:
            raise ValueError(f"{self.files.source}: none of its {broken} images can be decoded")
        self.indices = [self.indices[index] for index in whole]
        if self.labels is not None:
            self.labels = self.labels[whole]
            check_classes(self.files.source, self.classes or (), self.labels.tolist())
        self.skipped["broken"] += broken

    def _known_as(self, pixels):
        data = TensorData(pixels, self.labels, self.classes)
        data.skipped = self.skipped
        return data

    def _fill_all(self, pixels: np.ndarray) -> None:
        self._fill(torch.from_numpy(pixels), range(len(self)))

    def _fill(self, pixels, indices):
        with _threads() as each:
            for row, image in enumerate(each(self._decode_one, indices)):
                pixels[row] = image

    def _decode_one(self, index):
        number: int = self.indices[index]
        return decode(self.files.open(number), self.files.names[number], self.fit)

    def _is_whole(self, index):
        try:
            self._decode_one(index)
        except ImageError:
            return False
        return True


def encoded(
    files: Files,
    fit: Fit,
    *,
    memory: int = 2**30,
    skip_broken: bool = False,
    cache: Path | str | None = None,
    workers: int = WORKERS,
) -> TensorData | EncodedImages:
    """A data set of the files, with a warning if any was left out.

    If all images fit into `memory` bytes they are decoded now, once; else with each batch by `workers` processes.
    cache: a folder that keeps the decoded images for the next run. skip_broken: leave out images that cannot be decoded
    (each is decoded once now).
    """
    found = EncodedImages(files, fit)
    found.workers = workers
    if skip_broken:
        found.leave_out_broken()
    if cache is not None:
        data: TensorData | EncodedImages = found.in_file(cache)
    else:
        data = found.in_memory() if len(found) * np.prod(fit.shape) <= memory else found
    warn_of_skipped(files.source, found.skipped)
    return data


@contextmanager
def _threads() -> Iterator[Callable[..., Any]]:
    """A map over threads; in a loader's process, which has others beside it, the plain one."""
    if get_worker_info() is not None:
        yield map
        return
    with ThreadPoolExecutor(THREADS) as pool:
        yield pool.map
