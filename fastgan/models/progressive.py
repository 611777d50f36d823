"""ProGAN's pair, which grows from small images to large ones (Karras et al., 2018)."""

import math
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.models.pair import Pair
from fastgan.models.parts.layers import Layers
from fastgan.models.parts.projection_head import ProjectionHead
from fastgan.models.parts.resolution import double, halvings
from fastgan.nn import BiasAct, EqualizedConv2d, EqualizedEmbedding, EqualizedLinear, MinibatchStdDev, PixelNorm

# The discriminator's head. It has no convolutions, so their places hold plain ones.
HEAD = Layers(nn.Conv2d, nn.ConvTranspose2d, partial(EqualizedLinear, gain=1), EqualizedEmbedding)


def progressive(
    channels: int = 3,
    resolution: int = 128,
    classes: int | None = None,
    width: int = 512,
    z_dim: int = 512,
    pack: int = 1,
) -> Pair:
    """The pair for (channels, resolution, resolution) images, resolution = base * 2^levels with a base of 4 to 7.

    width: channels of the widest layers. Level l has min(width, 16 * width / 2^(l + 1)) channels, and at least 1.
    classes: z is joined by an embedding of the label. The discriminator projects on another embedding.
    The new pair has its full size (level = levels, alpha = 1). `set_stage(level, alpha)` of both networks sets a
    smaller stage: they then make and judge images of shape `stage_shape`.
    As in the paper, the generator does not end in a tanh: its samples can leave [-1, 1].
    """
    return Pair(
        Generator(channels, resolution, classes, width, z_dim),
        Discriminator(channels, resolution, classes, width, pack),
    )


class Stages(nn.Module):
    """A network that `level` and `alpha` determine. At alpha = 0 it computes what the level before computes."""

    def __init__(self, channels: int, resolution: int, width: int) -> None:
        super().__init__()
        self.base, self.levels = halvings(resolution)
        self.shape = (channels, resolution, resolution)
        self.widths = [max(min(width, 16 * width >> (level + 1)), 1) for level in range(self.levels + 1)]
        self.set_stage(self.levels, 1.0)

    def set_stage(self, level: int, alpha: float) -> None:
        if not isinstance(level, int) or not 0 <= level <= self.levels:
            raise ValueError(f"level must be an integer from 0 to {self.levels}, got {level!r}")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1], got {alpha}")
        self.level, self.alpha = level, float(alpha)

    @property
    def stage_shape(self) -> tuple[int, ...]:
        return (self.shape[0], *[self.base << self.level] * 2)

    @property
    def fading(self) -> bool:
        return self.level > 0 and self.alpha < 1


class Generator(Stages):
    def __init__(self, channels: int, resolution: int, classes: int | None, width: int, z_dim: int) -> None:
        super().__init__(channels, resolution, width)
        self.z_dim, self.classes = z_dim, classes
        self.embedding = nn.Embedding(classes, z_dim) if classes else None
        first, base = self.widths[0], self.base
        self.first = nn.Sequential(
            PixelNorm(),
            EqualizedLinear(z_dim * (2 if classes else 1), first * base**2, bias=False, gain=math.sqrt(2) / 4),
            nn.Unflatten(1, (first, base, base)),
            BiasAct(first),
            PixelNorm(),
            *conv(first, first, norm=True),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*conv(before, after, norm=True), *conv(after, after, norm=True))
            for before, after in pairwise(self.widths)
        )
        self.to_rgb = nn.ModuleList(EqualizedConv2d(width, channels, 1, gain=1) for width in self.widths)

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], 1)
        x = self.first(z)
        for block in self.blocks[: self.level]:
            before, x = x, block(double(x))
        image = self.to_rgb[self.level](x)
        if not self.fading:
            return image
        return torch.lerp(double(self.to_rgb[self.level - 1](before)), image, self.alpha)


class Discriminator(Stages):
    def __init__(self, channels: int, resolution: int, classes: int | None, width: int, pack: int) -> None:
        super().__init__(channels, resolution, width)
        first = self.widths[0]
        self.from_rgb = nn.ModuleList(nn.Sequential(*conv(pack * channels, width, size=1)) for width in self.widths)
        self.blocks = nn.ModuleList(
            nn.Sequential(*conv(before, before), *conv(before, after), nn.AvgPool2d(2))
            for after, before in pairwise(self.widths)
        )
        self.last = nn.Sequential(
            MinibatchStdDev(),
            *conv(first + 1, first),
            nn.Flatten(),
            EqualizedLinear(first * self.base**2, width, bias=False),
            BiasAct(width),
        )
        self.head = ProjectionHead(width, classes, HEAD, pack)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        side = self.base << self.level
        if x.shape[2:] != (side, side):
            raise ValueError(f"x must have {side} x {side} pixels at level {self.level}, got {tuple(x.shape)}")
        h = self.from_rgb[self.level](x)
        for level in reversed(range(self.level)):
            h = self.blocks[level](h)
            if self.fading and level == self.level - 1:
                h = torch.lerp(self.from_rgb[level](F.avg_pool2d(x, 2)), h, self.alpha)
        return self.head(self.last(h), labels)


def conv(before: int, after: int, size: int = 3, norm: bool = False) -> list[nn.Module]:
    layers: list[nn.Module] = [EqualizedConv2d(before, after, size, padding=size // 2, bias=False), BiasAct(after)]
    return [*layers, PixelNorm()] if norm else layers
