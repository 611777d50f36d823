"""R3GAN's pair: residual networks without normalisation (Huang et al., 2024, section 4).

Layout, widths and initial weights are those of the published code, brownvc/R3GAN: Networks.py, Resamplers.py and
FusedOperators.py in R3GAN/, and the presets of train.py.
"""

import math
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.models.pair import Pair
from fastgan.models.parts.resolution import halvings
from fastgan.ops import bias_act

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)
EXPANSION = 2
SLOPE = 0.2


def r3gan(
    channels: int = 3,
    resolution: int = 32,
    classes: int | None = None,
    width: int = 768,
    z_dim: int = 64,
    pack: int = 1,
    blocks: int = 2,
    group_width: int = 8,
    spectral_norm: str = "none",
) -> Pair:
    """The pair for (channels, resolution, resolution) images, resolution = 4..7 * 2^levels.

    width: channels up to 32 pixels. Above 32 pixels the channels halve as the resolution doubles.
    group_width: channels of a block's input for each group of its 3 x 3 convolution.
    blocks: residual blocks at each resolution.
    classes: an embedding of the label is appended to z, and the logit is the product of the discriminator's features
        with another embedding.

    The published presets as (width, group_width): CIFAR-10 and FFHQ (768, 8), ImageNet at 32 pixels (1536, 16).
    The generator does not end in a tanh: its samples can leave [-1, 1].
    """
    if spectral_norm != "none":
        raise ValueError(f"spectral_norm must be none: r3gan's blocks start at zero; got {spectral_norm!r}")
    base, levels = halvings(resolution)
    widths = [width >> max((base << level).bit_length() - 6, 0) for level in range(levels + 1)]
    if widths[-1] < 1:
        raise ValueError(
            f"width must be at least {1 << max(resolution.bit_length() - 6, 0)} at {resolution} pixels, got {width}"
        )
    return Pair(
        Generator(channels, resolution, classes, widths, z_dim, blocks, group_width),
        Discriminator(channels, resolution, classes, widths, blocks, group_width, pack),
    )


class Generator(nn.Module):
    def __init__(
        self,
        channels: int,
        resolution: int,
        classes: int | None,
        widths: list[int],
        z_dim: int,
        blocks: int,
        group_width: int,
    ) -> None:
        super().__init__()
        base, _ = halvings(resolution)
        self.z_dim, self.classes, self.shape = z_dim, classes, (channels, resolution, resolution)
        self.embedding = _embedding(classes, z_dim) if classes else None
        self.basis = nn.Parameter(torch.randn(widths[0], base, base))
        self.coefficients = msr(nn.Linear(z_dim * (2 if classes else 1), widths[0], bias=False))
        count = blocks * len(widths)
        stages: list[nn.Module] = [ResidualBlock(widths[0], count, group_width) for _ in range(blocks)]
        for before, after in pairwise(widths):
            stages.append(Resample(before, after, up=True))
            stages += [ResidualBlock(after, count, group_width) for _ in range(blocks)]
        self.stages = nn.Sequential(*stages)
        self.to_image = msr(nn.Conv2d(widths[-1], channels, 1, bias=False))

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], 1)
        return self.to_image(self.stages(self.basis * self.coefficients(z)[:, :, None, None]))


class Discriminator(nn.Module):
    def __init__(
        self,
        channels: int,
        resolution: int,
        classes: int | None,
        widths: list[int],
        blocks: int,
        group_width: int,
        pack: int,
    ) -> None:
        super().__init__()
        base, _ = halvings(resolution)
        count = blocks * len(widths)
        stages: list[nn.Module] = [msr(nn.Conv2d(pack * channels, widths[-1], 1, bias=False))]
        stages += [ResidualBlock(widths[-1], count, group_width) for _ in range(blocks)]
        for before, after in pairwise(widths[::-1]):
            stages.append(Resample(before, after, up=False))
            stages += [ResidualBlock(after, count, group_width) for _ in range(blocks)]
        basis = msr(nn.Conv2d(widths[0], widths[0], base, groups=widths[0], bias=False))
        self.features = nn.Sequential(*stages, basis, nn.Flatten())
        self.head = Head(widths[0], classes, pack)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.features(x), labels)


class Head(nn.Module):
    """features (B, F) -> logits (B,): w.h, or with labels y the product (W h).embedding(y), W (F, F).

    A discriminator of packs takes labels (B, pack). Each place in a pack has its own embedding: their sum is used.
    """

    places: torch.Tensor

    def __init__(self, features: int, classes: int | None, pack: int) -> None:
        super().__init__()
        self.linear = msr(nn.Linear(features, features if classes else 1, bias=False))
        self.embedding = _embedding(pack * classes, features, gain=features**-0.5) if classes else None
        self.register_buffer("places", torch.arange(pack) * (classes or 0), persistent=False)

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        h = self.linear(features)
        if self.embedding is None:
            return h.squeeze(1)
        pack = len(self.places)
        if labels is None or labels.numel() != len(h) * pack:
            got = None if labels is None else tuple(labels.shape)
            raise ValueError(
                f"labels must have shape ({len(h)}, {pack}) for a class-conditional discriminator, got {got}"
            )
        return (h * self.embedding(labels.reshape(-1, pack) + self.places).sum(1)).sum(1)


def _embedding(classes: int, features: int, gain: float = 1.0) -> nn.Embedding:
    """A linear layer of one-hot labels, with its initial weights: N(0, gain^2 / classes)."""
    layer = nn.Embedding(classes, features)
    nn.init.normal_(layer.weight, std=gain / math.sqrt(classes))
    return layer


class ResidualBlock(nn.Module):
    """x + conv1x1(act(conv3x3 in groups(act(conv1x1(x))))).

    Fixup (Zhang et al., 2019): the block starts as the identity.
    """

    def __init__(self, channels: int, count: int, group_width: int) -> None:
        super().__init__()
        wide = channels * EXPANSION
        gain = math.sqrt(2 / (1 + SLOPE**2)) * count ** (-1 / 4)  # count^(-1 / (2 m - 2)), m = 3 layers in a block
        groups = math.gcd(wide, max(channels // group_width, 1))
        self.conv1 = msr(nn.Conv2d(channels, wide, 1, bias=False), gain)
        self.conv2 = msr(nn.Conv2d(wide, wide, 3, padding=1, groups=groups, bias=False), gain)
        self.conv3 = msr(nn.Conv2d(wide, channels, 1, bias=False), 0)
        self.bias1, self.bias2 = nn.Parameter(torch.zeros(wide)), nn.Parameter(torch.zeros(wide))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = bias_act(self.conv1(x), self.bias1, act="leaky_relu", alpha=SLOPE)
        h = bias_act(self.conv2(h), self.bias2, act="leaky_relu", alpha=SLOPE)
        return x + self.conv3(h)


class Resample(nn.Module):
    """Twice or half the resolution through the filter [1 3 3 1] / 8, and a 1x1 convolution if widths differ.

    The published filter [1 2 1] is convolved with [1 1], so that the samples stay centred.
    """

    filter: torch.Tensor

    def __init__(self, before: int, after: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.conv = msr(nn.Conv2d(before, after, 1, bias=False)) if before != after else nn.Identity()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("filter", taps.outer(taps)[None, None] * (4 if up else 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.up:
            return self.conv(F.conv2d(x, *self._each(x), stride=2, padding=1, groups=x.shape[1]))
        x = self.conv(x)  # both are linear: the smaller map goes through the convolution
        return F.conv_transpose2d(x, *self._each(x), stride=2, padding=1, groups=x.shape[1])

    def _each(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.filter.to(x.dtype).expand(x.shape[1], 1, 4, 4),)


def msr(layer: Layer, gain: float = 1.0) -> Layer:
    """He et al.'s initial weights: N(0, gain^2 / fan_in)."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
