"""Line drawings of images: Canny's edge detector (1986) in tensor operations, a whole batch at once."""

import math

import torch
from torch.nn.functional import conv2d, max_pool2d, pad

from fastgan.data.transforms.grey import grey

SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
# One step across the edge, for gradients that point at 0, 45, 90 and 135 degrees (rows grow downwards).
ACROSS = ((0, 1), (1, 1), (1, 0), (1, -1))


def edges(images: torch.Tensor, sigma: float = 0.8, low: float = 0.1, high: float = 0.2) -> torch.Tensor:
    """images (B, 1 or 3, H, W) in [-1, 1] -> (B, 1, H, W), 1 on an edge, -1 elsewhere.

    Blur of `sigma` pixels, Sobel's gradient, thinned to where its size is largest across the edge; kept where it is
    above `high`, or above `low` and connected to such a place. Unit: a sharp step from black to white, before the blur.
    """
    if not (sigma > 0 and 0 < low <= high):
        raise ValueError(f"sigma must be above 0 and 0 < low <= high, got sigma {sigma}, low {low}, high {high}")
    smooth = _blur(grey(images), sigma)
    kernel = torch.tensor(SOBEL, dtype=smooth.dtype, device=smooth.device) / 8
    framed = pad(smooth, (1, 1, 1, 1), mode="replicate")
    dx, dy = (conv2d(framed, k.view(1, 1, 3, 3)) for k in (kernel, kernel.t()))
    size = torch.hypot(dx, dy)  # a sharp step from -1 to 1 has 1
    thin = torch.where(_is_ridge(size, dx, dy), size, 0.0)
    return torch.where(_connected(thin > high, thin > low), 1.0, -1.0)


def _blur(x, sigma):
    radius = math.ceil(2 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    weights = torch.softmax(-(offsets**2) / (2 * sigma**2), 0)
    x = pad(x, (radius,) * 4, mode="replicate")
    return conv2d(conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))


def _is_ridge(size, dx, dy):
    """Larger than the neighbour behind, and not smaller than the one ahead: of two equal ones the first stays."""
    sector = torch.round(torch.atan2(dy, dx) / (math.pi / 4)).long() % 4
    framed, (height, width) = pad(size, (1, 1, 1, 1)), size.shape[2:]
    ridge = torch.zeros_like(size, dtype=torch.bool)
    for number, (down, right) in enumerate(ACROSS):
        ahead = framed[:, :, 1 + down : 1 + down + height, 1 + right : 1 + right + width]
        behind = framed[:, :, 1 - down : 1 - down + height, 1 - right : 1 - right + width]
        ridge |= (sector == number) & (size > behind) & (size >= ahead)
    return ridge


def _connected(strong, weak):
    """What is weak and reachable from strong through weak neighbours, diagonals included."""
    reached = strong
    while True:
        grown = (max_pool2d(reached.float(), 3, stride=1, padding=1) > 0) & weak
        if torch.equal(grown, reached):
            return reached
        reached = grown
