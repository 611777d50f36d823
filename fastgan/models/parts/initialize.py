"""Initial weights."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

WEIGHT_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)  # embeddings stay N(0, 1)


def initialize(
    model: nn.Module, fill_: Callable[[torch.Tensor], object], layers: tuple[type[nn.Module], ...] = WEIGHT_LAYERS
) -> nn.Module:
    """Call fill_(weight) for each layer of the types `layers` and set biases to 0. Returns the model."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, layers):
                _fill(module, fill_)
    return model


def _fill(layer: Any, fill_: Callable[[torch.Tensor], object]) -> None:
    if parametrize.is_parametrized(layer, "weight"):
        norm, original = layer.parametrizations.weight[0], layer.parametrizations.weight.original
        fill_(original)
        norm.settle(original)  # u and v still belong to the weight before
    else:
        fill_(layer.weight)
    if getattr(layer, "bias", None) is not None:
        layer.bias.zero_()


def glorot_(weight: torch.Tensor) -> None:
    """Glorot's uniform weights: gain sqrt(2) for 3x3 convolutions, which a ReLU precedes, and 1 for other layers."""
    relu_before = weight.ndim == 4 and weight.shape[-1] == 3
    nn.init.xavier_uniform_(weight, math.sqrt(2) if relu_before else 1)
