"""Layers with an equalised learning rate (Karras et al., 2018, section 4.1).

Weights are drawn from N(0, 1) and multiplied in each forward by gain / sqrt(fan_in), the constant of He et al.: Adam,
whose steps do not depend on the scale of a gradient, then changes all layers at the same relative speed. This is not an
initialisation: folded into the weights, the constant would change the training.
With lr_multiplier m, weights start at N(0, 1) / m, and weights and biases are multiplied by m more: a step moves them
m times as far.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

BEFORE_RELU = math.sqrt(2)


class EqualizedConv2d(nn.Conv2d):
    """torch.nn.Conv2d with the weight scaled at run time. Arguments: torch's, and gain, 1 if no ReLU follows."""

    scale: float

    def __init__(self, *args: Any, gain: float = BEFORE_RELU, lr_multiplier: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _equalize(self, self.weight[0].numel(), gain, lr_multiplier)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(x, self.weight * self.scale, _bias(self))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale:.4g}"


class EqualizedLinear(nn.Linear):
    """torch.nn.Linear with the weight scaled at run time. Arguments: torch's, and those of EqualizedConv2d."""

    scale: float

    def __init__(self, *args: Any, gain: float = BEFORE_RELU, lr_multiplier: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _equalize(self, self.in_features, gain, lr_multiplier)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight * self.scale, _bias(self))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scale={self.scale:.4g}"


class EqualizedEmbedding(nn.Embedding):
    """torch.nn.Embedding scaled by gain / sqrt(dimensions) at run time, for products with features of unit variance."""

    def __init__(self, *args: Any, gain: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.scale = gain / math.sqrt(self.embedding_dim)

    def forward(self, labels: torch.Tensor) -> torch.Tensor:
        return super().forward(labels) * self.scale


def _equalize(layer, fan_in, gain, lr_multiplier):
    if not lr_multiplier > 0:
        raise ValueError(f"lr_multiplier must be positive, got {lr_multiplier}")
    layer.lr_multiplier, layer.scale = lr_multiplier, gain / math.sqrt(fan_in) * lr_multiplier
    with torch.no_grad():
        layer.weight.normal_(std=1 / lr_multiplier)
        if layer.bias is not None:
            layer.bias.zero_()


def _bias(layer):
    return layer.bias if layer.bias is None or layer.lr_multiplier == 1 else layer.bias * layer.lr_multiplier
