"""R3GAN's pair: residual networks without normalisation (Huang et al., 2024, section 4)."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.models.pair import Pair
from fastgan.models.parts.layers import Layers
from fastgan.models.parts.projection_head import ProjectionHead
from fastgan.models.parts.resolution import halvings
from fastgan.nn import EqualizedEmbedding
from fastgan.ops import bias_act

EXPANSION = 2
GROUP = 8  # channels of a block's input for each group of its 3 x 3 convolution
SLOPE = 0.2
HEAD = Layers(None, None, nn.Linear, EqualizedEmbedding)


def r3gan(channels=3, resolution=32, classes=None, width=768, z_dim=64, pack=1, blocks=2, spectral_norm="none"):
    """The pair for (channels, resolution, resolution) images, resolution = 4..7 * 2^levels.

    width: channels up to 32 pixels; above, they halve as the resolution doubles. Defaults and layout are those of the
    published code: at 32 pixels four stages of 768 channels in 96 groups, 768, 384, 192, 96 from there to 256 pixels.
    blocks: how many at each resolution. The generator ends in no tanh: its samples may leave [-1, 1].
    classes: an embedding joins z, the critic projects on one.
    """
    if spectral_norm != "none":
        raise ValueError(f"spectral_norm must be none: r3gan's blocks start at zero, of no norm; got {spectral_norm!r}")
    base, levels = halvings(resolution)
    widths = [width >> max((base << level).bit_length() - 6, 0) for level in range(levels + 1)]
    if widths[-1] < 1:
        raise ValueError(f"width must be larger at {resolution} pixels, where it is halved; got {width}")
    return Pair(
        Generator(channels, resolution, classes, widths, z_dim, blocks),
        Discriminator(channels, resolution, classes, widths, blocks, pack),
    )


class Generator(nn.Module):
    def __init__(self, channels, resolution, classes, widths, z_dim, blocks):
        super().__init__()
        base, _ = halvings(resolution)
        self.z_dim, self.classes, self.shape = z_dim, classes, (channels, resolution, resolution)
        self.embedding = nn.Embedding(classes, z_dim) if classes else None
        self.basis = nn.Parameter(torch.randn(widths[0], base, base))
        self.coefficients = msr(nn.Linear(z_dim * (2 if classes else 1), widths[0], bias=False))
        count = blocks * len(widths)
        stages = [ResidualBlock(widths[0], count) for _ in range(blocks)]
        for before, after in pairwise(widths):
            stages += [Resample(before, after, up=True), *(ResidualBlock(after, count) for _ in range(blocks))]
        self.stages = nn.Sequential(*stages)
        self.to_image = msr(nn.Conv2d(widths[-1], channels, 1, bias=False))

    def forward(self, z, labels=None):
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], 1)
        return self.to_image(self.stages(self.basis * self.coefficients(z)[:, :, None, None]))


class Discriminator(nn.Module):
    def __init__(self, channels, resolution, classes, widths, blocks, pack):
        super().__init__()
        base, _ = halvings(resolution)
        count = blocks * len(widths)
        stages = [msr(nn.Conv2d(pack * channels, widths[-1], 1, bias=False))]
        stages += [ResidualBlock(widths[-1], count) for _ in range(blocks)]
        for before, after in pairwise(widths[::-1]):
            stages += [Resample(before, after, up=False), *(ResidualBlock(after, count) for _ in range(blocks))]
        basis = msr(nn.Conv2d(widths[0], widths[0], base, groups=widths[0], bias=False))
        self.features = nn.Sequential(*stages, basis, nn.Flatten())
        self.head = ProjectionHead(widths[0], classes, HEAD, pack)
        msr(self.head.linear)

    def forward(self, x, labels=None):
        return self.head(self.features(x), labels)


class ResidualBlock(nn.Module):
    """x + conv1x1(act(conv3x3 in groups(act(conv1x1(x))))): Fixup (Zhang et al., 2019), so that it starts as x."""

    def __init__(self, channels, count):
        super().__init__()
        wide = channels * EXPANSION
        gain = math.sqrt(2 / (1 + SLOPE**2)) * count ** (-1 / 4)  # count^(-1 / (2 m - 2)), m = 3 layers in a block
        groups = math.gcd(wide, max(channels // GROUP, 1))
        self.conv1 = msr(nn.Conv2d(channels, wide, 1, bias=False), gain)
        self.conv2 = msr(nn.Conv2d(wide, wide, 3, padding=1, groups=groups, bias=False), gain)
        self.conv3 = msr(nn.Conv2d(wide, channels, 1, bias=False), 0)
        self.bias1, self.bias2 = nn.Parameter(torch.zeros(wide)), nn.Parameter(torch.zeros(wide))

    def forward(self, x):
        h = bias_act(self.conv1(x), self.bias1, act="leaky_relu", alpha=SLOPE)
        h = bias_act(self.conv2(h), self.bias2, act="leaky_relu", alpha=SLOPE)
        return x + self.conv3(h)


class Resample(nn.Module):
    """Twice or half the resolution through the filter [1 2 1] / 4, and a 1x1 convolution where widths differ."""

    def __init__(self, before, after, up):
        super().__init__()
        self.up = up
        self.conv = msr(nn.Conv2d(before, after, 1, bias=False)) if before != after else nn.Identity()
        taps = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("filter", taps.outer(taps)[None, None] * (4 if up else 1), persistent=False)

    def forward(self, x):
        if not self.up:
            return self.conv(F.conv2d(x, *self._each(x), stride=2, padding=1, groups=x.shape[1]))
        x = self.conv(x)  # both are linear: the convolution goes where the map is small
        return F.conv_transpose2d(x, *self._each(x), stride=2, padding=1, output_padding=1, groups=x.shape[1])

    def _each(self, x):
        return (self.filter.to(x.dtype).expand(x.shape[1], 1, 3, 3),)


def msr(layer, gain=1.0):
    """He et al.'s initial weights: N(0, gain^2 / fan_in)."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
