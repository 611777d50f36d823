"""Burt and Adelson's pyramid of differences between an image's scales (1983)."""

import torch
from torch.nn.functional import conv2d, pad


def laplacian_pyramid(images: torch.Tensor, levels: int) -> list[torch.Tensor]:
    """images (B, C, H, W), H and W divisible by 2^(levels - 1) -> `levels` tensors, finest first.

    Each is the image minus the next coarser one, enlarged; the last is the coarsest image itself.
    """
    pyramid = []
    for _ in range(levels - 1):
        coarser = _blur(images)[:, :, ::2, ::2]
        enlarged = images.new_zeros(images.shape)
        enlarged[:, :, ::2, ::2] = 4 * coarser  # the zeros between take three quarters of the blur's weight
        pyramid.append(images - _blur(enlarged))
        images = coarser
    return [*pyramid, images]


def _blur(images):
    """By (1, 4, 6, 4, 1) / 16 in both directions, borders mirrored without repeating the border itself."""
    line = images.new_tensor([1, 4, 6, 4, 1]) / 16
    channels = images.shape[1]
    kernel = torch.outer(line, line).expand(channels, 1, 5, 5)
    return conv2d(pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=channels)
