"""Many images in one PNG."""

import math
import warnings

import torch

from fastgan.atomic_file import replacing
from fastgan.extras import require

GAP = 2
SMALLEST_SIDE = 56  # smaller images are enlarged by a whole factor, pixel by pixel


def save_grid(images, path, columns=None):
    """images (N, 1 or 3, H, W) in [-1, 1] -> a PNG, row by row; columns: by default as square as it gets."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(f"images must have shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
    broken = int((~images.flatten(1).isfinite().all(1)).sum())
    if broken:
        warnings.warn(f"{broken} of {len(images)} images hold NaN or infinity, drawn as grey", stacklevel=2)
        images = torch.where(images.isfinite(), images, 0.0)
    grid = make_grid(images, columns)
    array = (grid[0] if len(grid) == 1 else grid.permute(1, 2, 0)).numpy()
    with replacing(path) as unfinished:
        require("PIL.Image").fromarray(array).save(unfinished, format="PNG")


def make_grid(images, columns=None):
    """images (N, C, H, W) in [-1, 1] -> uint8 (C, height, width)"""
    columns = min(columns or math.ceil(math.sqrt(len(images))), len(images))
    factor = math.ceil(SMALLEST_SIDE / min(images.shape[2:]))
    pixels = images.detach().cpu().float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    pixels = pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    count, channels, height, width = pixels.shape
    rows = math.ceil(count / columns)
    grid = torch.full((channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP), 255, dtype=torch.uint8)
    for index, image in enumerate(pixels):
        top = GAP + index // columns * (height + GAP)
        left = GAP + index % columns * (width + GAP)
        grid[:, top : top + height, left : left + width] = image
    return grid
