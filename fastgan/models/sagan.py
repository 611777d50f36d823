"""SAGAN (Zhang et al., 2019): SN-GAN's residual pair with self-attention and spectral norm in both networks."""

from fastgan.models.parts.residual import residual_pair
from fastgan.models.parts.resolution import halvings

LARGEST_MAP = 32  # the paper's best place for attention, at 128 pixels


def sagan(
    channels=3,
    resolution=128,
    classes=None,
    width=None,
    z_dim=128,
    spectral_norm="both",
    pack=1,
    head="projection",
):
    """The pair for (channels, resolution, resolution) images, resolution = 4..7 * 2^levels with at least two levels.

    Each network has one fastgan.nn.SelfAttention2d, after the block that makes the largest map of at most 32 x 32 and
    below the image's resolution: 14 for 28 pixels, 16 for 32, 32 for 64 and 128. Arguments otherwise as sngan's.
    """
    return residual_pair(
        channels, resolution, classes, width, z_dim, spectral_norm, pack, head, attended_side(resolution)
    )


def attended_side(resolution):
    _, levels = halvings(resolution)
    if levels < 2:
        raise ValueError(f"resolution must be 4 to 7 times 4, 8, 16, ... for attention, got {resolution}")
    side = resolution // 2
    while side > LARGEST_MAP:
        side //= 2
    return side
