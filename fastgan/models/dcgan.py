"""DCGAN (Radford et al., 2016): strided convolutions, up in the generator and down in the discriminator."""

from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from fastgan.models.pair import Pair
from fastgan.models.parts.initialize import initialize
from fastgan.models.parts.layers import PLAIN, Layers, SpectralNorm, choose
from fastgan.models.parts.projection_head import Head, HeadedDiscriminator, make_head
from fastgan.models.parts.resolution import halvings


def dcgan(
    channels: int = 3,
    resolution: int = 64,
    classes: int | None = None,
    width: int = 64,
    z_dim: int = 100,
    spectral_norm: SpectralNorm = "discriminator",
    pack: int = 1,
    head: Head = "projection",
    norm: Literal["batch", "none"] = "batch",
) -> Pair:
    """The pair for (channels, resolution, resolution) images, resolution = 4..7 * 2^levels.

    width: channels of the layer next to the image. Each further layer has twice as many. The paper has width=128 at 64
        pixels.
    classes: z is joined by an embedding of the label. The discriminator projects on another embedding.
    head: "auxiliary" for a discriminator that classifies images with `classify` (AC-GAN), instead of the projection.
    pack: samples that the discriminator judges at once.
    norm: "batch" is the paper's batch norm in a discriminator without spectral norm. "none" leaves it out. A penalty on
        each sample's gradient needs a discriminator without batch norm.
    """
    if norm not in ("batch", "none"):
        raise ValueError(f"norm must be batch or none; got {norm!r}")
    for_generator, for_discriminator = choose(spectral_norm)
    pair = Pair(
        Generator(channels, resolution, classes, width, z_dim, for_generator),
        Discriminator(channels, resolution, classes, width, for_discriminator, pack, head, norm),
    )
    for network in pair:
        initialize(network, partial(nn.init.normal_, std=0.02))
    return pair


class Generator(nn.Module):
    def __init__(
        self, channels: int, resolution: int, classes: int | None, width: int, z_dim: int, layers: Layers
    ) -> None:
        super().__init__()
        base, levels = halvings(resolution)
        self.z_dim, self.classes, self.shape = z_dim, classes, (channels, resolution, resolution)
        self.embedding = nn.Embedding(classes, z_dim) if classes else None  # N(0, 1), as z
        widths = [width * 2**level for level in reversed(range(levels))]
        self.first = nn.Sequential(
            layers.Linear(z_dim * (2 if classes else 1), widths[0] * base * base, bias=False),
            nn.Unflatten(1, (widths[0], base, base)),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        ups = []
        for before, after in pairwise(widths):
            ups += [layers.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.ups = nn.Sequential(*ups)
        self.to_image = nn.Sequential(layers.ConvTranspose2d(width, channels, 4, 2, 1), nn.Tanh())

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], 1)  # (B, 2 z_dim)
        return self.to_image(self.ups(self.first(z)))


class Discriminator(HeadedDiscriminator):
    def __init__(
        self,
        channels: int,
        resolution: int,
        classes: int | None,
        width: int,
        layers: Layers,
        pack: int = 1,
        head: Head = "projection",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        base, levels = halvings(resolution)
        widths = [width * 2**level for level in range(levels)]
        downs = [layers.Conv2d(pack * channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for before, after in pairwise(widths):
            norms = [nn.BatchNorm2d(after)] if layers is PLAIN and norm == "batch" else []
            downs += [layers.Conv2d(before, after, 4, 2, 1, bias=not norms), *norms, nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*downs, nn.Flatten())
        self.head = make_head(head, widths[-1] * base * base, classes, layers, pack)

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)
