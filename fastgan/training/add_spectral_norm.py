"""Spectral norm on any network, by one field of the recipe."""

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from fastgan.nn import fuse_spectral_norm, spectral_norm

PLAYERS = {"generator": (True, False), "discriminator": (False, True), "both": (True, True)}


def normalize_weights(pair, recipe):
    """The pair, in place, with spectral norm where recipe.spectral_norm asks for it.

    On each convolution, linear layer and embedding without a parametrization; all power iterations of a network in one
    op per forward.
    """
    for network, wanted in zip(pair, PLAYERS.get(recipe.spectral_norm, (False, False)), strict=True):
        if wanted:
            for module in list(network.modules()):
                if isinstance(module, (_ConvNd, nn.Linear, nn.Embedding)) and not parametrize.is_parametrized(module):
                    spectral_norm(module)
            fuse_spectral_norm(network)
    return pair
