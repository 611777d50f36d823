"""Folders of images: one sub-folder for each class, or one flat folder."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from fastgan.data.sources.decode import ImageError, decode
from fastgan.data.sources.listing import check_classes, list_images, warn_of_skipped
from fastgan.data.sources.tensor_data import TensorData

__all__ = ["FolderData", "ImageError", "image_folder"]
THREADS = 4  # PIL decodes and resamples outside of Python's lock


def image_folder(
    folder: Path | str, resolution: int = 64, channels: int = 3, memory: int = 2**30, skip_broken: bool = False
) -> "TensorData | FolderData":
    """The images under `folder`, fitted to (channels, resolution, resolution) as `decode` says.

    Sub-folders are classes, searched to any depth; without any, the images lie in the folder itself and have no labels.
    Names with a leading dot, __MACOSX, pipes and devices are left out, and a folder behind several links is visited
    once. The result's `skipped`, a Counter {reason: number}, counts the images that were left out; a warning reports
    the same. If all images fit into `memory` bytes they are decoded now, once, into TensorData; else with each batch.
    skip_broken: leave out images that cannot be decoded (every image is decoded once now, also with little memory).

    Errors: FileNotFoundError, NotADirectoryError; ValueError without images, with a class without images, or with
    images both beside and in sub-folders; ImageError (a ValueError), when it is decoded, for a broken image.
    """
    if resolution < 4:
        raise ValueError(f"resolution must be at least 4, got {resolution}")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    paths, labels, classes, skipped = list_images(folder)
    found = FolderData(paths, labels, classes, (channels, resolution, resolution), skipped)
    if skip_broken:
        found.leave_out_broken(folder)
    data = found.in_memory() if len(found) * channels * resolution**2 <= memory else found
    warn_of_skipped(folder, found.skipped)
    return data


class FolderData:
    """Images that are decoded when a batch needs them."""

    prefetch = 2  # decoding goes on while the networks train

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int] | None,
        classes: Sequence[str] | None,
        shape: tuple[int, int, int],
        skipped: Mapping[str, int] | None = None,
    ) -> None:
        self.paths, self.shape = list(paths), shape
        self.classes = tuple(classes) if classes else None
        self.labels = None if labels is None else torch.tensor(labels)
        self.skipped = Counter(skipped)

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        samples = self.decode(indices.tolist()) / 127.5 - 1
        return samples, None if self.labels is None else self.labels[indices]

    def decode(self, indices: Sequence[int]) -> torch.Tensor:
        """uint8 (B, *shape)"""
        pixels = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        with ThreadPoolExecutor(THREADS) as pool:
            for row, image in enumerate(pool.map(self._decode_one, indices)):
                pixels[row] = image
        return pixels

    def in_memory(self) -> TensorData:
        data = TensorData(self.decode(range(len(self))), self.labels, self.classes)
        data.skipped = self.skipped
        return data

    def leave_out_broken(self, folder: Path | str) -> None:
        """Decode each image once, and forget those that cannot be decoded. Errors: ValueError if a class has none
        left."""
        with ThreadPoolExecutor(THREADS) as pool:
            whole = [index for index, fine in enumerate(pool.map(self._is_whole, range(len(self)))) if fine]
        broken = len(self) - len(whole)
        if not broken:
            return
        if not whole:
            raise ValueError(f"{folder}: none of its {broken} images can be decoded")
        self.paths = [self.paths[index] for index in whole]
        if self.labels is not None:
            self.labels = self.labels[whole]
            check_classes(folder, self.classes or (), self.labels.tolist())
        self.skipped["broken"] += broken

    def _decode_one(self, index):
        channels, resolution, _ = self.shape
        return decode(self.paths[index], resolution, channels)

    def _is_whole(self, index):
        try:
            self._decode_one(index)
        except ImageError:
            return False
        return True
