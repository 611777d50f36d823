"""Folders of images: one sub-folder for each class, or one flat folder."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from fastgan.data.sources.decode import ImageError, decode
from fastgan.data.sources.tensor_data import TensorData
from fastgan.extras import require

__all__ = ["FolderData", "ImageError", "image_folder"]
THREADS = 4  # PIL decodes and resamples outside of Python's lock


def image_folder(folder, resolution=64, channels=3, memory=2**30):
    """The images under `folder`, fitted to (channels, resolution, resolution) as `decode` says.

    Sub-folders are classes, searched to any depth (torchvision's ImageFolder; names with a leading dot are skipped);
    without any, the images lie in the folder itself and have no labels.
    Where all of them fit into `memory` bytes they are decoded now, once, into TensorData; else with each batch.

    Errors: FileNotFoundError, NotADirectoryError; ValueError without images, with an empty class, or with images both
    beside and in sub-folders; ImageError (a ValueError) for a broken image, when it is decoded.
    """
    if resolution < 4:
        raise ValueError(f"resolution must be at least 4, got {resolution}")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    paths, labels, classes = list_images(folder)
    data = FolderData(paths, labels, classes, (channels, resolution, resolution))
    if len(paths) * channels * resolution**2 > memory:
        return data
    return TensorData(data.decode(range(len(paths))), labels, classes)


def list_images(folder):
    """-> paths, labels (or None), classes' names (or None); sorted, so that an index means the same everywhere."""
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file, not a folder of images")
    extensions = require("torchvision.datasets.folder").IMG_EXTENSIONS
    flat = sorted(str(p) for p in folder.iterdir() if p.suffix.lower() in extensions and p.is_file())
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    samples = _list_classes(folder, classes) if classes else []
    if flat and samples:
        raise ValueError(f"{folder}: has images both in itself and in sub-folders; keep one of the two")
    if not flat and not samples:
        raise ValueError(f"{folder}: has no images (looked for {', '.join(extensions)})")
    if flat:
        return flat, None, None
    labels = [label for _, label in samples]
    for empty in set(range(len(classes))).difference(labels):
        raise ValueError(f"{folder / classes[empty]}: has no images, but is taken for a class; remove it")
    return [path for path, _ in samples], labels, classes


def _list_classes(folder, classes):
    datasets = require("torchvision.datasets.folder")
    class_to_index = {name: index for index, name in enumerate(classes)}
    return datasets.make_dataset(str(folder), class_to_index, datasets.IMG_EXTENSIONS, allow_empty=True)


class FolderData:
    """Images that are decoded when a batch asks for them."""

    prefetch = 2  # decoding goes on while the networks train

    def __init__(self, paths, labels, classes, shape):
        self.paths, self.shape, self.classes = paths, shape, classes and tuple(classes)
        self.labels = None if labels is None else torch.tensor(labels)

    def __len__(self):
        return len(self.paths)

    def batch(self, indices):
        samples = self.decode(indices.tolist()) / 127.5 - 1
        return samples, None if self.labels is None else self.labels[indices]

    def decode(self, indices):
        """uint8 (B, *shape)"""
        channels, resolution, _ = self.shape
        pixels = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        with ThreadPoolExecutor(THREADS) as pool:
            one = lambda index: decode(self.paths[index], resolution, channels)  # noqa: E731
            for row, image in enumerate(pool.map(one, indices)):
                pixels[row] = image
        return pixels
