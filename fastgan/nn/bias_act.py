"""Bias, activation, gain and clamp as a layer."""

from typing import Literal

import torch
from torch import nn

from fastgan import ops
from fastgan.ops.bias_act import ACTIVATIONS, ActivationName

NAMES: dict[str, ActivationName] = {**{name: name for name in ACTIVATIONS}, "lrelu": "leaky_relu", "swish": "silu"}


class BiasAct(nn.Module):
    """clamp(gain * act(x + bias), -clamp, clamp) by `fastgan.ops.bias_act`, which documents dtypes and derivatives.

    Args:
        channels: x.shape[dim], the length of the learned bias, which starts at 0; None for no bias.
        act, alpha, gain, clamp, dim: as in the op; "lrelu" is "leaky_relu", and "swish" is "silu".
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        channels: int | None = None,
        act: ActivationName | Literal["lrelu", "swish"] = "leaky_relu",
        *,
        alpha: float = 0.2,
        gain: float = 1.0,
        clamp: float | None = None,
        dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if act not in NAMES:
            raise ValueError(f"act must be one of {', '.join(ACTIVATIONS)}; got {act!r}")
        self.act: ActivationName = NAMES[act]
        self.alpha, self.gain, self.clamp, self.dim = alpha, gain, clamp, dim
        bias = None if channels is None else nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))
        self.register_parameter("bias", bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ops.bias_act(
            x, self.bias, dim=self.dim, act=self.act, alpha=self.alpha, gain=self.gain, clamp=self.clamp
        )

    def extra_repr(self) -> str:
        channels = None if self.bias is None else len(self.bias)
        return f"{channels}, {self.act!r}, alpha={self.alpha}, gain={self.gain}, clamp={self.clamp}, dim={self.dim}"
