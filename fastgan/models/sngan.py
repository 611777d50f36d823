"""SN-GAN's residual pair (Miyato et al., 2018), class-conditional as in Miyato & Koyama, 2018."""

from fastgan.models.pair import Pair
from fastgan.models.parts.layers import SpectralNorm
from fastgan.models.parts.projection_head import Head
from fastgan.models.parts.residual import residual_pair


def sngan(
    channels: int = 3,
    resolution: int = 32,
    classes: int | None = None,
    width: int | None = None,
    z_dim: int = 128,
    spectral_norm: SpectralNorm = "discriminator",
    pack: int = 1,
    head: Head = "projection",
) -> Pair:
    """The pair for (channels, resolution, resolution) images, resolution = 4..7 * 2^levels.

    width: channels of the widest layer. With at most 3 halvings (32 pixels) all layers of the generator have `width`
        channels and the discriminator's have half (default 256). Otherwise the channels halve as the resolution doubles
        (default 1024). Both defaults are the paper's.
    classes: conditional batch norm in the generator, and a projection on an embedding in the discriminator.
    head: "auxiliary" for a discriminator that classifies images with `classify` (AC-GAN), instead of the projection.
    pack: samples that the discriminator judges at once.
    """
    return residual_pair(channels, resolution, classes, width, z_dim, spectral_norm, pack=pack, head=head)
