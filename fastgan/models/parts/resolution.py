"""Sides that halve and double."""

import torch
from torch.nn import functional as F


def halvings(resolution: int) -> tuple[int, int]:
    """resolution = base * 2^levels with a base of 4 to 7 and at least one level -> (base, levels).

    28 -> (7, 2), 32 -> (4, 3), 48 -> (6, 3), 64 -> (4, 4), 128 -> (4, 5)
    """
    base, levels = resolution, 0
    while base % 2 == 0 and base >= 8:
        base, levels = base // 2, levels + 1
    if not 4 <= base <= 7 or levels == 0:
        raise ValueError(f"resolution must be 4 to 7 times a power of two (28, 32, 64, 128, ...), got {resolution}")
    return base, levels


def double(x: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) -> (B, C, 2 H, 2 W), each pixel four times."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
