"""Folders of images: one sub-folder for each class, or one flat folder."""

import os
from pathlib import Path
from typing import Any

from fastgan.data.sources.decode import Alpha, Crop, Fit, Resize
from fastgan.data.sources.encoded import EncodedImages, Files, encoded
from fastgan.data.sources.listing import list_images
from fastgan.data.sources.tensor_data import TensorData


def image_folder(
    folder: Path | str,
    resolution: int = 64,
    channels: int = 3,
    memory: int = 2**30,
    skip_broken: bool = False,
    links: bool = False,
    resize: Resize = "bicubic",
    crop: Crop = "center",
    alpha: Alpha = "drop",
    **how: Any,
) -> TensorData | EncodedImages:
    """The images under `folder`, fitted to (channels, resolution, resolution) by `resize`, `crop` and `alpha`, as Fit
    says.

    Sub-folders are classes, searched to any depth; without any, the images lie in the folder itself and have no labels.
    Names with a leading dot, __MACOSX, pipes and devices are left out, and links out of the folder unless `links`
    allows them. A folder behind several links is visited once. The result's `skipped`, a Counter {reason: number},
    counts the images that were left out; a warning reports the same. If all images fit into `memory` bytes they are
    decoded now, once, into TensorData; else with each batch, by `workers` processes (2).
    skip_broken: leave out images that cannot be decoded (every image is decoded once now, also with little memory).
    cache: a folder that keeps the decoded images, mapped into memory, for the next run.

    Errors: FileNotFoundError, NotADirectoryError; ValueError without images, with a class without images, or with
    images both beside and in sub-folders; ImageError (a ValueError), when it is decoded, for a broken image.
    """
    fit = Fit(resolution, channels, resize, crop, alpha)
    return encoded(folder_files(folder, links), fit, memory=memory, skip_broken=skip_broken, **how)


def folder_files(folder: Path | str, links: bool = False) -> Files:
    """The images of a folder as `list_images` finds them."""
    paths, labels, classes, skipped = list_images(folder, links)
    stamp = [[os.path.abspath(path), (status := os.stat(path)).st_size, status.st_mtime_ns] for path in paths]
    return Files(folder, paths, lambda index: Path(paths[index]), stamp, labels, classes, skipped)
