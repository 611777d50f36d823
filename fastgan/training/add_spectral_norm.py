"""Spectral norm on any network, by one field of the recipe."""

import warnings
from typing import TypeVar

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from fastgan.nn import fuse_spectral_norm, spectral_norm
from fastgan.training.recipe.recipe import Recipe

Networks = TypeVar("Networks", bound=tuple[nn.Module, nn.Module])  # a Pair, or a plain pair

PLAYERS = {"generator": (True, False), "discriminator": (False, True), "both": (True, True)}


def add_spectral_norm(pair: Networks, recipe: Recipe) -> Networks:
    """The pair, in place, with spectral norm on the networks that recipe.spectral_norm names.

    On each convolution, linear layer and embedding without a parametrization; all power iterations of a network in one
    op per forward. A weight that starts at zero has no direction to normalise: it is left as it is, and a warning names
    it.
    """
    for player, network, wanted in zip(
        ("generator", "discriminator"), pair, PLAYERS.get(recipe.spectral_norm, (False, False)), strict=True
    ):
        if wanted:
            zero = []
            for name, module in list(network.named_modules()):
                if isinstance(module, (_ConvNd, nn.Linear, nn.Embedding)) and not parametrize.is_parametrized(module):
                    if module.weight.is_meta or module.weight.any():
                        spectral_norm(module)
                    else:
                        zero.append(name)
            if zero:
                warnings.warn(
                    f"the {player} has no spectral norm on {', '.join(zero)}: these weights start at zero",
                    stacklevel=3,
                )
            fuse_spectral_norm(network)
    return pair
