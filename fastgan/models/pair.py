"""What `create` returns."""

from typing import NamedTuple

from torch import nn


class Pair(NamedTuple):
    """The two players.

    generator(z) or generator(z, labels): z (B, generator.z_dim) -> (B, *generator.shape) in [-1, 1], or about there
        where the published network ends in no tanh
    discriminator(x) or discriminator(x, labels): -> logits (B,), or of patches (B, 1, h, w)
    Both take labels, int64 (B,), where generator.classes is a number, and none where it is None. An image-to-image pair
    takes the source image in their place, and has z_dim = 0.
    """

    generator: nn.Module
    discriminator: nn.Module
