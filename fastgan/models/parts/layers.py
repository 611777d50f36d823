"""Layers with weights, with and without spectral normalisation."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch import nn

from fastgan.nn import SNConv2d, SNConvTranspose2d, SNEmbedding, SNLinear


class Layers(NamedTuple):
    Conv2d: Callable[..., Any]
    ConvTranspose2d: Callable[..., Any]
    Linear: Callable[..., Any]
    Embedding: Callable[..., Any]


PLAIN = Layers(nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Embedding)
SPECTRAL = Layers(SNConv2d, SNConvTranspose2d, SNLinear, SNEmbedding)

SpectralNorm = Literal["none", "discriminator", "both"]
SPECTRAL_NORM = {"none": (PLAIN, PLAIN), "discriminator": (PLAIN, SPECTRAL), "both": (SPECTRAL, SPECTRAL)}


def choose(spectral_norm: str) -> tuple[Layers, Layers]:
    """(layers of the generator, layers of the discriminator)"""
    if spectral_norm not in SPECTRAL_NORM:
        raise ValueError(f"spectral_norm must be one of {', '.join(SPECTRAL_NORM)}; got {spectral_norm!r}")
    return SPECTRAL_NORM[spectral_norm]
