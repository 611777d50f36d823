"""Resizing as clean-fid prescribes (Parmar et al., 2022): antialiased, in floating point, channel by channel."""

import torch
from torch.nn.functional import interpolate


def resize(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """images (B, C, H, W) with values 0..255 -> float32 (B, C, height, width) in 0..255, not rounded.

    Bicubic (a = -1/2) with a support that grows with the reduction, which is PIL's on 32-bit floats; clipped. Images
    that have the size already stay as they are. Most resize functions alias or round, which moves FID by points.
    """
    images = images.float()
    if images.shape[2:] == (height, width):
        return images
    resized = interpolate(images, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp_(0, 255)
