"""pix2pix: a U-Net that translates images, and a discriminator of patches (Isola et al., 2017, appendix 6.1)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.models.pair import Pair
from fastgan.models.parts.initialize import initialize
from fastgan.models.parts.layers import Layers, SpectralNorm, choose

NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    # As published, evaluation also uses the statistics of its batch: of one image, in batches of one.
    "batch": partial(nn.BatchNorm2d, track_running_stats=False),
    "instance": nn.InstanceNorm2d,
    "none": None,
}


def pix2pix(
    channels: int = 3,
    resolution: int = 256,
    width: int = 64,
    source_channels: int | None = None,
    spectral_norm: SpectralNorm = "none",
    pack: int = 1,
    norm: Literal["batch", "instance", "none"] = "batch",
    n_layers: int = 3,
    dropout: float = 0.5,
    dropout_at_test: bool = True,
) -> Pair:
    """The pair that translates source images to (channels, resolution, resolution) images. Any resolution from 4 on.

    generator(z, source): source (B, source_channels, ...), z (B, 0) or None. The only noise is the dropout of the
        decoder's first three blocks. dropout_at_test keeps the dropout in evaluation mode.
    discriminator(x, source) -> logits of patches (B, 1, h, w). A patch has 16, 34, 70, 142 or 286 pixels a side for
        n_layers = 1 to 5.
    A source of another size is resized bilinearly.
    width: channels of the outer layers. Inner layers have up to 8 times as many.
    norm: "batch", "instance" or "none".
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}")
    if resolution < 4:
        raise ValueError(f"resolution must be at least 4, got {resolution}")
    if not isinstance(n_layers, int) or n_layers < 1 or (resolution >> n_layers) < 3:
        raise ValueError(f"n_layers must be at least 1, with {resolution} >> n_layers at least 3; got {n_layers!r}")
    source_channels = source_channels or channels
    for_generator, for_discriminator = choose(spectral_norm)
    pair = Pair(
        Generator(channels, source_channels, resolution, width, for_generator, NORMS[norm], dropout, dropout_at_test),
        Discriminator(pack * (channels + source_channels), width, n_layers, for_discriminator, NORMS[norm]),
    )
    for network in pair:
        initialize(network, partial(nn.init.normal_, std=0.02))
    return pair


class Generator(nn.Module):
    z_dim, classes = 0, None

    def __init__(
        self,
        channels: int,
        source_channels: int,
        resolution: int,
        width: int,
        layers: Layers,
        norm: Callable[[int], nn.Module] | None,
        dropout: float,
        dropout_at_test: bool,
    ) -> None:
        super().__init__()
        self.shape = (channels, resolution, resolution)
        sides = [resolution]  # halved (rounded down) until one pixel is left
        widths: list[int] = []
        while sides[-1] > 1:
            sides.append(sides[-1] // 2)
            widths.append(width * min(2 ** len(widths), 8))
        depth = len(widths)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, after in enumerate(widths):
            before = source_channels if level == 0 else widths[level - 1]
            normed = norm if 0 < level < depth - 1 else None
            self.downs.append(
                nn.Sequential(
                    layers.Conv2d(before, after, 4, 2, 1, bias=not normed and norm is not NORMS["batch"]),
                    *([normed(after)] if normed else []),
                )
            )
        for level in reversed(range(depth)):
            before = widths[level] * (1 if level == depth - 1 else 2)  # the skip connection doubles it
            after = channels if level == 0 else widths[level - 1]
            normed = norm if level else None
            up = layers.ConvTranspose2d(before, after, 4, 2, 1, output_padding=sides[level] % 2, bias=not normed)
            modules = [up, *([normed(after)] if normed else [])]
            if level and depth - 1 - level < 3:
                modules.append(Dropout(dropout, dropout_at_test))
            self.ups.append(nn.Sequential(*modules))

    def forward(self, z: torch.Tensor | None, source: torch.Tensor) -> torch.Tensor:
        x = resized(source, self.shape[1:])
        skips: list[torch.Tensor] = []
        for down in self.downs:
            x = down(F.leaky_relu(x, 0.2) if skips else x)
            skips.append(x)
        for up in self.ups:
            skip = skips.pop()
            x = up(F.relu(skip if skip is x else torch.cat([skip, x], 1)))
        return torch.tanh(x)


class Dropout(nn.Module):
    """The generator's only noise. It stays on in evaluation mode when at_test is true."""

    def __init__(self, p: float, at_test: bool) -> None:
        super().__init__()
        self.p, self.at_test = p, at_test

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.p, self.training or self.at_test)


class Discriminator(nn.Module):
    def __init__(
        self, channels: int, width: int, n_layers: int, layers: Layers, norm: Callable[[int], nn.Module] | None
    ) -> None:
        super().__init__()
        modules, before = [layers.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)], width
        for level in range(1, n_layers + 1):
            after, stride = width * min(2**level, 8), 2 if level < n_layers else 1
            modules.append(layers.Conv2d(before, after, 4, stride, 1, bias=not norm))
            modules += [*([norm(after)] if norm else []), nn.LeakyReLU(0.2)]
            before = after
        self.layers = nn.Sequential(*modules, layers.Conv2d(before, 1, 4, 1, 1))

    def forward(self, x: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([resized(source, x.shape[2:]), x], 1))


def resized(source: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    if tuple(source.shape[2:]) == tuple(size):
        return source
    return F.interpolate(source, size=tuple(size), mode="bilinear", align_corners=False)
