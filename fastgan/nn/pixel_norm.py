"""Feature vectors of unit length (Karras et al., 2018, section 4.2)."""

import torch
from torch import nn


class PixelNorm(nn.Module):
    """x / sqrt(mean_c x^2 + eps) over the channels, dimension 1, of x (B, C, ...), each position by itself.

    dtypes: any floating; the mean is taken in float32 (float64 for float64). Derivatives: of any order.
    """

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x if x.dtype == torch.float64 else x.float()  # squares of float16 overflow above 255
        return (y * (y.square().mean(1, keepdim=True) + self.eps).rsqrt()).to(x.dtype)

    def extra_repr(self) -> str:
        return f"eps={self.eps}"
