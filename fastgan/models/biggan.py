"""BigGAN's pair (Brock et al., 2019, appendix B, and the published PyTorch code). It is not BigGAN-deep."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from fastgan.models.pair import Pair
from fastgan.models.parts.initialize import WEIGHT_LAYERS, initialize
from fastgan.models.parts.layers import PLAIN, Layers, SpectralNorm, choose
from fastgan.models.parts.projection_head import Head, HeadedDiscriminator, make_head
from fastgan.models.parts.residual import DownBlock
from fastgan.models.parts.resolution import double, halvings
from fastgan.nn import SelfAttention2d

# Number of halvings -> multiples of `width`: the generator's widths before the first block and after each block.
UPS = {
    1: (4, 4),
    2: (4, 4, 4),
    3: (4, 4, 4, 4),
    4: (16, 16, 8, 4, 2),
    5: (16, 16, 8, 4, 2, 1),
    6: (16, 16, 8, 8, 4, 2, 1),
}
# The same for the discriminator: (multiple of `width` after a block, whether the block halves the resolution).
DOWNS = {
    1: ((4, True), (4, False), (4, False), (4, False)),
    2: ((4, True), (4, True), (4, False), (4, False)),
    3: ((4, True), (4, True), (4, False), (4, False)),
    4: ((1, True), (2, True), (4, True), (8, True), (16, False)),
    5: ((1, True), (2, True), (4, True), (8, True), (16, True), (16, False)),
    6: ((1, True), (2, True), (4, True), (8, True), (8, True), (16, True), (16, False)),
}


def biggan(
    channels: int = 3,
    resolution: int = 128,
    classes: int | None = None,
    width: int = 64,
    z_dim: int = 120,
    spectral_norm: SpectralNorm = "both",
    pack: int = 1,
    head: Head = "projection",
    shared_dim: int = 128,
    attention: int | None = None,
) -> Pair:
    """The pair for (channels, resolution, resolution) images, resolution = 4..7 * 2^levels with 1 to 6 levels.

    width: the paper's ch, 96 for ImageNet.
    z_dim: z is split into equal chunks, one for the first layer and one for each block. z_dim is rounded down to fit.
        A block computes the gains and biases of its batch norms from its chunk and from an embedding of the class.
    shared_dim: size of the class embedding, which all blocks share.
    attention: resolution of the map that has a SelfAttention2d, 0 for none. The default is the largest map of at most
        64 pixels, smaller than the image.
    head: as in sngan. Initial weights are orthogonal.
    """
    base, levels = halvings(resolution)
    if levels not in UPS:
        raise ValueError(f"resolution must have at most {max(UPS)} halvings, got {resolution}")
    maps = [base << level for level in range(levels)]
    attention = max((side for side in maps[1:] if side <= 64), default=0) if attention is None else attention
    if attention not in (0, *maps[1:]):
        raise ValueError(f"attention must be 0 or one of {', '.join(map(str, maps[1:]))}; got {attention}")
    for_generator, for_discriminator = choose(spectral_norm)
    ups = [width * multiple for multiple in UPS[levels]]
    downs = [(width * multiple, halve) for multiple, halve in DOWNS[levels]]
    pair = Pair(
        Generator(channels, resolution, classes, ups, z_dim, shared_dim, attention, for_generator),
        Discriminator(channels, resolution, classes, downs, attention, for_discriminator, pack, head),
    )
    for network in pair:
        initialize(network, nn.init.orthogonal_, (*WEIGHT_LAYERS, nn.Embedding))
    return pair


class Generator(nn.Module):
    def __init__(
        self,
        channels: int,
        resolution: int,
        classes: int | None,
        widths: list[int],
        z_dim: int,
        shared_dim: int,
        attention: int,
        layers: Layers,
    ) -> None:
        super().__init__()
        base, levels = halvings(resolution)
        self.chunk = z_dim // (levels + 1)
        if self.chunk < 1:
            raise ValueError(f"z_dim must be at least {levels + 1}, one number for each chunk; got {z_dim}")
        self.z_dim, self.classes = self.chunk * (levels + 1), classes
        self.shape = (channels, resolution, resolution)
        self.shared = nn.Embedding(classes, shared_dim) if classes else None
        condition = self.chunk + (shared_dim if classes else 0)
        first = widths[0]
        self.first = nn.Sequential(layers.Linear(self.chunk, first * base**2), nn.Unflatten(1, (first, base, base)))
        self.blocks, self.attentions = nn.ModuleList(), nn.ModuleDict()
        for level, (before, after) in enumerate(pairwise(widths)):
            self.blocks.append(UpBlock(before, after, condition, layers))
            if base << (level + 1) == attention:
                self.attentions[str(level)] = SelfAttention2d(after, spectral_norm=layers is not PLAIN)
        last = widths[-1]
        self.to_image = nn.Sequential(
            nn.BatchNorm2d(last), nn.ReLU(), layers.Conv2d(last, channels, 3, padding=1), nn.Tanh()
        )

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        first, *chunks = z.split(self.chunk, 1)
        shared = [self.shared(labels)] if self.shared is not None else []
        x = self.first(first)
        for level, (block, chunk) in enumerate(zip(self.blocks, chunks, strict=True)):
            x = block(x, torch.cat([*shared, chunk], 1))
            if str(level) in self.attentions:
                x = self.attentions[str(level)](x)
        return self.to_image(x)


class UpBlock(nn.Module):
    """(B, before, H, W), condition (B, K) -> (B, after, 2 H, 2 W)"""

    def __init__(self, before: int, after: int, condition: int, layers: Layers) -> None:
        super().__init__()
        self.norm1 = VectorBatchNorm2d(before, condition, layers)
        self.norm2 = VectorBatchNorm2d(after, condition, layers)
        self.conv1 = layers.Conv2d(before, after, 3, padding=1)
        self.conv2 = layers.Conv2d(after, after, 3, padding=1)
        self.shortcut = layers.Conv2d(before, after, 1)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        h = self.conv1(double(F.relu(self.norm1(x, condition))))
        h = self.conv2(F.relu(self.norm2(h, condition)))
        return h + double(self.shortcut(x))  # a 1x1 convolution and a nearest neighbour commute


class VectorBatchNorm2d(nn.BatchNorm2d):
    """x (B, C, H, W), condition (B, K) -> (1 + gain(condition)) * batch_norm(x) + bias(condition), both linear."""

    def __init__(self, channels: int, condition: int, layers: Layers) -> None:
        super().__init__(channels, affine=False)
        self.gain_of = layers.Linear(condition, channels, bias=False)
        self.bias_of = layers.Linear(condition, channels, bias=False)

    # It takes a condition, which nn.BatchNorm2d does not.
    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        x = super().forward(x)
        gain, bias = (layer(condition)[..., None, None] for layer in (self.gain_of, self.bias_of))
        return torch.addcmul(bias + x, gain, x)


class Discriminator(HeadedDiscriminator):
    def __init__(
        self,
        channels: int,
        resolution: int,
        classes: int | None,
        widths: list[tuple[int, bool]],
        attention: int,
        layers: Layers,
        pack: int,
        head: Head,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        before, side = pack * channels, resolution
        for index, (after, halve) in enumerate(widths):
            blocks.append(DownBlock(before, after, halve, layers, first=index == 0))
            before, side, was = after, side // 2 if halve else side, side
            if side == attention and was != side:
                blocks.append(SelfAttention2d(after, spectral_norm=layers is not PLAIN))
        self.blocks = nn.Sequential(*blocks)
        self.head = make_head(head, before, classes, layers, pack)

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.blocks(x)).sum((2, 3))
