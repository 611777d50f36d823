"""A generator and a discriminator: what `create` returns."""

from typing import NamedTuple

from torch import nn


class Pair(NamedTuple):
    """The two players.

    generator(z) or generator(z, labels): z (B, generator.z_dim) -> (B, *generator.shape) in [-1, 1]. Samples can leave
        [-1, 1] when the published network does not end in a tanh.
    discriminator(x) or discriminator(x, labels): -> logits (B,), or logits of patches (B, 1, h, w)
    labels: int64 (B,), when generator.classes is a number. No labels when it is None. An image-to-image pair takes the
        source image instead of labels, and has z_dim = 0.
    """

    generator: nn.Module
    discriminator: nn.Module
