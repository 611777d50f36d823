"""The residual networks of SN-GAN (Miyato et al., 2018): blocks, their widths, a generator and a discriminator."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from fastgan.models.pair import Pair
from fastgan.models.parts.initialize import glorot_, initialize
from fastgan.models.parts.layers import SPECTRAL, Layers, SpectralNorm, choose
from fastgan.models.parts.projection_head import Head, HeadedDiscriminator, make_head
from fastgan.models.parts.resolution import double, halvings
from fastgan.nn import SelfAttention2d
from fastgan.nn.conditional_batch_norm import ConditionalBatchNorm2d


def residual_pair(
    channels: int,
    resolution: int,
    classes: int | None,
    width: int | None,
    z_dim: int,
    spectral_norm: SpectralNorm,
    pack: int = 1,
    head: Head = "projection",
    attend_at: int | None = None,
) -> Pair:
    """Arguments as sngan's. attend_at: side of the map that goes through a SelfAttention2d in both networks."""
    _, levels = halvings(resolution)
    small = levels <= 3
    width = width or (256 if small else 1024)
    ups, downs = _small(width, levels) if small else _large(width, levels)
    for_generator, for_discriminator = choose(spectral_norm)
    pair = Pair(
        Generator(channels, resolution, classes, ups, z_dim, for_generator, attend_at),
        Discriminator(channels, resolution, classes, downs, for_discriminator, pack, head, attend_at),
    )
    for network in pair:
        initialize(network, glorot_)
    return pair


# _small and _large return the generator's channels before the first block and after each block, and for each block of
# the discriminator (channels, whether it halves the resolution).


def _small(width: int, levels: int) -> tuple[list[int], list[tuple[int, bool]]]:
    _check(width, 2)
    return [width] * (levels + 1), [(width // 2, True)] * 2 + [(width // 2, False)] * 2


def _large(width: int, levels: int) -> tuple[list[int], list[tuple[int, bool]]]:
    """64 pixels: 1024 512 256 128 64. 128 pixels: 1024 1024 512 256 128 64, and one more block in the discriminator."""
    _check(width, 16)
    ups = [width] * (levels - 4) + [width >> level for level in range(5)]
    downs = [(after, True) for after in reversed(ups[levels - 4 :])]
    return ups, downs + [(width, True)] * (levels - 5) + [(width, False)] * (levels > 4)


def _check(width: int, divisor: int) -> None:
    if width < divisor or width % divisor:
        raise ValueError(f"width must be a multiple of {divisor} at this resolution, got {width}")


class Generator(nn.Module):
    def __init__(
        self,
        channels: int,
        resolution: int,
        classes: int | None,
        widths: list[int],
        z_dim: int,
        layers: Layers,
        attend_at: int | None = None,
    ) -> None:
        super().__init__()
        self.z_dim, self.classes, self.shape = z_dim, classes, (channels, resolution, resolution)
        base, _ = halvings(resolution)
        self.first = nn.Sequential(layers.Linear(z_dim, widths[0] * base**2), nn.Unflatten(1, (widths[0], base, base)))
        self.blocks = nn.ModuleList(UpBlock(before, after, classes, layers) for before, after in pairwise(widths))
        sides = [base << level for level in range(1, len(widths))]
        self.attended = sides.index(attend_at) if attend_at else None  # the block that attention follows
        self.attention = None if self.attended is None else _attention(widths[self.attended + 1], layers)
        self.to_image = nn.Sequential(
            nn.BatchNorm2d(widths[-1]), nn.ReLU(), layers.Conv2d(widths[-1], channels, 3, padding=1), nn.Tanh()
        )

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        x = self.first(z)
        for index, block in enumerate(self.blocks):
            x = block(x, labels)
            if self.attention is not None and index == self.attended:
                x = self.attention(x)
        return self.to_image(x)


class UpBlock(nn.Module):
    """(B, before, H, W) -> (B, after, 2 H, 2 W)"""

    def __init__(self, before: int, after: int, classes: int | None, layers: Layers) -> None:
        super().__init__()
        self.norm1, self.norm2 = ConditionalBatchNorm2d(before, classes), ConditionalBatchNorm2d(after, classes)
        self.conv1 = layers.Conv2d(before, after, 3, padding=1)
        self.conv2 = layers.Conv2d(after, after, 3, padding=1)
        self.shortcut = layers.Conv2d(before, after, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        h = self.conv1(double(F.relu(self.norm1(x, labels))))
        h = self.conv2(F.relu(self.norm2(h, labels)))
        return h + double(self.shortcut(x))  # a 1x1 convolution and a nearest neighbour commute: a quarter of the work


class Discriminator(HeadedDiscriminator):
    def __init__(
        self,
        channels: int,
        resolution: int,
        classes: int | None,
        widths: list[tuple[int, bool]],
        layers: Layers,
        pack: int = 1,
        head: Head = "projection",
        attend_at: int | None = None,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before, side = pack * channels, resolution
        for after, halve in widths:
            blocks.append(DownBlock(before, after, halve, layers, first=not blocks))
            before, side = after, side // 2 if halve else side
            if halve and side == attend_at:
                blocks.append(_attention(after, layers))
        self.blocks = nn.Sequential(*blocks)
        self.head = make_head(head, before, classes, layers, pack)

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.blocks(x)).sum((2, 3))


class DownBlock(nn.Module):
    """(B, before, H, W) -> (B, after, H / 2, W / 2), or (B, after, H, W).

    The first block has no ReLU before its convolutions.
    """

    def __init__(self, before: int, after: int, halve: bool, layers: Layers, first: bool) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        self.conv1 = layers.Conv2d(before, after, 3, padding=1)
        self.conv2 = layers.Conv2d(after, after, 3, padding=1)
        self.shortcut = layers.Conv2d(before, after, 1) if halve or before != after else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if not self.halve:
            return h + self.shortcut(x)
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))  # the two commute


def _attention(channels: int, layers: Layers) -> SelfAttention2d:
    return SelfAttention2d(channels, spectral_norm=layers is SPECTRAL)
