"""The changes that a critic should not see: for consistency regularisation."""

from functools import partial

import torch
from torch.nn.functional import pad

from fastgan import randomness

SHIFT = 4  # pixels at the most, each way


def flip(x: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
    """Mirrors each image (B, C, H, W) left to right with probability 1/2."""
    mirrored = randomness.of_batch(torch.rand, (len(x),), generator=rng, device=x.device) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def shift(x: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
    """Moves each image (B, C, H, W) by up to 4 pixels (less in tiny ones) each way, borders reflected."""
    most = min(SHIFT, min(x.shape[2:]) - 1)
    wide = pad(x, [most] * 4, mode="reflect")
    integers = partial(torch.randint, 2 * most + 1)
    offset = randomness.of_batch(integers, (2, len(x)), dim=1, generator=rng, device=x.device)
    row, column = (
        start[:, None] + torch.arange(size, device=x.device) for start, size in zip(offset, x.shape[2:], strict=True)
    )
    sample = torch.arange(len(x), device=x.device)[:, None, None]
    return wide[sample, :, row[:, :, None], column[:, None, :]].movedim(3, 1)


def flip_shift(x: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
    return shift(flip(x, rng), rng)


AUGMENTATIONS = {"flip": flip, "shift": shift, "flip_shift": flip_shift}
