"""Brightness."""

import torch


def grey(images: torch.Tensor) -> torch.Tensor:
    """(B, 1 or 3, H, W) -> (B, 1, H, W): the images, or Rec. 601's luma of their colours."""
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ValueError(f"images must be floating point (B, 1 or 3, H, W), got {images.dtype} {tuple(images.shape)}")
    if images.shape[1] == 1:
        return images
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue
