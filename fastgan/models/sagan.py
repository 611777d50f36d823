"""SAGAN (Zhang et al., 2019): SN-GAN's residual pair with self-attention and spectral norm in both networks."""

from fastgan.models.pair import Pair
from fastgan.models.parts.layers import SpectralNorm
from fastgan.models.parts.projection_head import Head
from fastgan.models.parts.residual import residual_pair
from fastgan.models.parts.resolution import halvings

LARGEST_MAP = 32  # the paper's best place for attention, at 128 pixels


def sagan(
    channels: int = 3,
    resolution: int = 128,
    classes: int | None = None,
    width: int | None = None,
    z_dim: int = 128,
    spectral_norm: SpectralNorm = "both",
    pack: int = 1,
    head: Head = "projection",
) -> Pair:
    """The pair for (channels, resolution, resolution) images, resolution = 4..7 * 2^levels with at least two levels.

    Each network has one fastgan.nn.SelfAttention2d, on the largest map of at most 32 x 32 that is smaller than the
    image: 14 for 28 pixels, 16 for 32, 32 for 64 and 128. Arguments as sngan's.
    """
    return residual_pair(
        channels, resolution, classes, width, z_dim, spectral_norm, pack, head, attended_side(resolution)
    )


def attended_side(resolution: int) -> int:
    _, levels = halvings(resolution)
    if levels < 2:
        raise ValueError(f"resolution must be 4 to 7 times 4, 8, 16, ... for attention, got {resolution}")
    side = resolution // 2
    while side > LARGEST_MAP:
        side //= 2
    return side
