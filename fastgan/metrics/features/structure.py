"""Features that see structure in any images, without training: energies of fixed random filters at several scales."""

import torch
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, conv2d, pad

FILTERS, GRID, SMALLEST = 16, 4, 4


class Structure(nn.Module):
    """(B, C, H, W) in [-1, 1] -> features (B, D), D = about 512 C for each halving of the sides.

    At each scale of an averaging pyramid, |image * random filter| and, of these, |energies * random filter| at half the
    resolution, each averaged over a grid of 4 x 4 fields; at last the smallest image itself. Filters have mean 0: a
    blur has too little energy at the fine scales, noise too much. The idea is that of scattering transforms (Bruna and
    Mallat, 2013), with random filters. Channels are looked at one by one. A function of its input alone: the seed is
    fixed.
    """

    def __init__(self) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(0)
        self.register_buffer("first", _filters(1, source))
        self.register_buffer("second", _filters(FILTERS, source))

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found, scale = [], images.flatten(0, 1).unsqueeze(1)  # (B C, 1, H, W)
        while min(scale.shape[2:]) >= SMALLEST:
            energies = _energies(scale, self.first)  # (B C, 16, h, w)
            found.append(_fields(energies))
            if min(scale.shape[2:]) >= 2 * SMALLEST:
                found.append(_fields(_energies(energies, self.second, stride=2)))
            scale = avg_pool2d(scale, 2)
        found.append(scale.flatten(1))
        return torch.cat(found, 1).unflatten(0, (len(images), -1)).flatten(1)


def _filters(channels, source):
    """(16, channels, 3, 3), each plane of mean 0, each filter of norm 1"""
    filters = torch.randn(FILTERS, channels, 3, 3, generator=source)
    filters -= filters.mean((2, 3), keepdim=True)
    return filters / filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def _energies(images, filters, stride=1):
    return conv2d(pad(images, (1, 1, 1, 1), mode="replicate"), filters, stride=stride).abs()


def _fields(energies):
    return adaptive_avg_pool2d(energies, (min(GRID, energies.shape[2]), min(GRID, energies.shape[3]))).flatten(1)
