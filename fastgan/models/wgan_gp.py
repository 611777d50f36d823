"""WGAN-GP's residual pair (Gulrajani et al., 2017, appendix F: CIFAR-10)."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from fastgan.models.pair import Pair
from fastgan.models.parts.initialize import glorot_, initialize
from fastgan.models.parts.layers import Layers, SpectralNorm, choose
from fastgan.models.parts.projection_head import Head, HeadedDiscriminator, make_head
from fastgan.models.parts.resolution import double, halvings
from fastgan.nn import BiasAct, ConditionalBatchNorm2d, GroupNorm

# Normalisations of the discriminator: a sample's logit depends on that sample alone. The authors' layer norm is over
# (C, H, W), with a gain and a bias per channel: a group norm with one group.
NORMS = {
    "layer": lambda channels: GroupNorm(1, channels),
    "group": lambda channels: GroupNorm(math.gcd(32, channels), channels),
    "none": lambda channels: nn.Identity(),
}


def wgan_gp(
    channels: int = 3,
    resolution: int = 32,
    classes: int | None = None,
    width: int = 128,
    z_dim: int = 128,
    spectral_norm: SpectralNorm = "none",
    norm: Literal["layer", "group", "none"] = "layer",
    pack: int = 1,
    head: Head = "projection",
) -> Pair:
    """The pair for (channels, resolution, resolution) images, resolution = 4..7 * 2^levels.

    width: channels of every layer but the outermost.
    norm: of the discriminator. "layer", "group" (gcd(32, width) groups) or "none" (the published network at 32 pixels).
        The generator has batch norm.
    classes: conditional batch norm in the generator, and a projection on an embedding in the discriminator.
    head: "auxiliary" for a discriminator that classifies images with `classify`, as in the paper.
    pack: samples that the discriminator judges at once.
    Above 32 pixels each network has one more block for each doubling.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}")
    for_generator, for_discriminator = choose(spectral_norm)
    pair = Pair(
        Generator(channels, resolution, classes, width, z_dim, for_generator),
        Discriminator(channels, resolution, classes, width, for_discriminator, NORMS[norm], pack, head),
    )
    for network in pair:
        initialize(network, glorot_)
    return pair


class Generator(nn.Module):
    def __init__(
        self, channels: int, resolution: int, classes: int | None, width: int, z_dim: int, layers: Layers
    ) -> None:
        super().__init__()
        self.z_dim, self.classes, self.shape = z_dim, classes, (channels, resolution, resolution)
        base, levels = halvings(resolution)
        self.first = nn.Sequential(layers.Linear(z_dim, width * base**2), nn.Unflatten(1, (width, base, base)))
        self.blocks = nn.ModuleList(UpBlock(width, classes, layers) for _ in range(levels))
        self.norm = ConditionalBatchNorm2d(width)
        self.to_image = layers.Conv2d(width, channels, 3, padding=1)

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        x = self.first(z)
        for block in self.blocks:
            x = block(x, labels)
        return torch.tanh(self.to_image(F.relu(self.norm(x))))


class UpBlock(nn.Module):
    """(B, width, H, W) -> (B, width, 2 H, 2 W)"""

    def __init__(self, width: int, classes: int | None, layers: Layers) -> None:
        super().__init__()
        self.norm1, self.norm2 = ConditionalBatchNorm2d(width, classes), ConditionalBatchNorm2d(width, classes)
        self.conv1 = layers.Conv2d(width, width, 3, padding=1)
        self.conv2 = layers.Conv2d(width, width, 3, padding=1)
        self.shortcut = layers.Conv2d(width, width, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        h = self.conv1(double(F.relu(self.norm1(x, labels))))
        h = self.conv2(F.relu(self.norm2(h, labels)))
        return h + double(self.shortcut(x))  # a 1x1 convolution and a nearest neighbour commute


class Discriminator(HeadedDiscriminator):
    """Blocks that halve the image to 7 or 8 pixels, two that do not, ReLU and the mean over positions."""

    def __init__(
        self,
        channels: int,
        resolution: int,
        classes: int | None,
        width: int,
        layers: Layers,
        norm: Callable[[int], nn.Module],
        pack: int = 1,
        head: Head = "projection",
    ) -> None:
        super().__init__()
        _, levels = halvings(resolution)
        halved = max(levels - 1, min(levels, 2))
        self.blocks = nn.Sequential(
            FirstBlock(pack * channels, width, layers),
            *(Block(width, layers, norm, halve=index < halved) for index in range(1, halved + 2)),
            BiasAct(act="relu"),
        )
        self.head = make_head(head, width, classes, layers, pack)

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x).mean((2, 3))


class FirstBlock(nn.Module):
    """(B, channels, H, W) -> (B, width, H / 2, W / 2), without normalisation, and no ReLU before the image."""

    def __init__(self, channels: int, width: int, layers: Layers) -> None:
        super().__init__()
        self.conv1, self.act = layers.Conv2d(channels, width, 3, padding=1), BiasAct(act="relu")
        self.conv2 = layers.Conv2d(width, width, 3, padding=1)
        self.shortcut = layers.Conv2d(channels, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(self.conv2(self.act(self.conv1(x))), 2) + self.shortcut(F.avg_pool2d(x, 2))


class Block(nn.Module):
    """(B, width, H, W) -> (B, width, H / 2, W / 2), or the same size with an identity beside the convolutions."""

    def __init__(self, width: int, layers: Layers, norm: Callable[[int], nn.Module], halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.norm1, self.act1, self.conv1 = norm(width), BiasAct(act="relu"), layers.Conv2d(width, width, 3, padding=1)
        self.norm2, self.act2, self.conv2 = norm(width), BiasAct(act="relu"), layers.Conv2d(width, width, 3, padding=1)
        self.shortcut = layers.Conv2d(width, width, 1) if halve else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(self.act1(self.norm1(x)))
        h = self.conv2(self.act2(self.norm2(h)))
        if not self.halve:
            return h + x
        return F.avg_pool2d(h, 2) + self.shortcut(F.avg_pool2d(x, 2))  # the mean and a 1x1 convolution commute
