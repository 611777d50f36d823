"""Images as files: many in one picture, or a file each."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from fastgan.atomic_file import replacing
from fastgan.extras import require

GAP = 2
SMALLEST_SIDE = 56  # smaller images are enlarged by a whole factor, pixel by pixel
CAPTION = 12  # pixels under an image for its caption


def save_grid(
    images: torch.Tensor, path: Path | str, columns: int | None = None, captions: Sequence[str] | None = None
) -> None:
    """images (N, 1 or 3, H, W) in [-1, 1] -> one picture, row by row, in the format of the path's suffix (PNG if it has
    none).

    columns: by default as square as it gets. captions: a short text for each image, written under it.
    Errors: ValueError for other shapes, or a suffix of no known format; FileExistsError as atomic_file.replacing.
    """
    _check(images)
    format = _format_of(path)
    space = CAPTION if captions else 0
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    picture = _picture(make_grid(images, columns, space))
    if captions:
        draw = require("PIL.ImageDraw").Draw(picture)
        rows = math.ceil(len(images) / columns)
        width, height = (picture.width - GAP) // columns, (picture.height - GAP) // rows
        for index, caption in enumerate(captions):
            left, bottom = GAP + index % columns * width, (index // columns + 1) * height
            draw.text((left + 1, bottom - CAPTION), caption, fill=0 if picture.mode == "L" else (0, 0, 0))
    with replacing(path) as unfinished:
        picture.save(unfinished, format=format)


def save_images(images: torch.Tensor, folder: Path | str) -> list[Path]:
    """images (N, 1 or 3, H, W) in [-1, 1] -> folder/00000.png, 00001.png, ..., each in its own size. Returns paths."""
    _check(images)
    paths = [Path(folder) / f"{index:05d}.png" for index in range(len(images))]
    for image, path in zip(to_bytes(images), paths, strict=True):
        with replacing(path) as unfinished:
            _picture(image).save(unfinished, format="PNG")
    return paths


def make_grid(images: torch.Tensor, columns: int | None = None, space: int = 0) -> torch.Tensor:
    """images (N, C, H, W) in [-1, 1] -> uint8 (C, height, width); space: white rows under each image."""
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    factor = math.ceil(SMALLEST_SIDE / min(images.shape[2:]))
    pixels = to_bytes(images).repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    count, channels, height, width = pixels.shape
    rows, step = math.ceil(count / columns), height + space + GAP
    grid = torch.full((channels, rows * step + GAP, columns * (width + GAP) + GAP), 255, dtype=torch.uint8)
    for index, image in enumerate(pixels):
        top = GAP + index // columns * step
        left = GAP + index % columns * (width + GAP)
        grid[:, top : top + height, left : left + width] = image
    return grid


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> uint8, on the CPU. NaN and infinity become grey, with a warning."""
    images = images.detach().cpu().float()
    broken = int((~images.flatten(1).isfinite().all(1)).sum())
    if broken:
        warnings.warn(f"{broken} of {len(images)} images hold NaN or infinity, drawn as grey", stacklevel=3)
        images = torch.where(images.isfinite(), images, 0.0)
    return images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def _picture(image):
    """uint8 (C, H, W) -> a PIL image"""
    return require("PIL.Image").fromarray((image[0] if len(image) == 1 else image.permute(1, 2, 0)).numpy())


def _format_of(path):
    suffix = Path(path).suffix.lower()
    if not suffix:
        return "PNG"
    image = require("PIL.Image")
    known = {name: format for name, format in image.registered_extensions().items() if format in image.SAVE}
    if suffix not in known:
        raise ValueError(f"{path}: the suffix must name a format of images, like .png, .jpg or .webp; got {suffix!r}")
    return known[suffix]


def _check(images):
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(f"images must have shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
