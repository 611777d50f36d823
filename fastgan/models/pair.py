"""What `create` returns."""

from typing import NamedTuple

from torch import nn


class Pair(NamedTuple):
    """The two players.

    generator(z) or generator(z, labels): z (B, generator.z_dim) -> (B, *generator.shape) in [-1, 1]
    discriminator(x) or discriminator(x, labels): -> logits (B,)
    Both take labels, int64 (B,), where generator.classes is a number, and none where it is None.
    """

    generator: nn.Module
    discriminator: nn.Module
