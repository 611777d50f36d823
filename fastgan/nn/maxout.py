"""Maxout units (Goodfellow et al., 2013)."""

import torch
from torch import nn


def maxout(x: torch.Tensor, pieces: int) -> torch.Tensor:
    """(..., n * pieces) -> (..., n), the largest of each `pieces` neighbours.

    By max(dim), whose derivatives, to any order, go to one of several equal pieces; amax would share them out, and its
    backward takes longer.
    """
    return x.unflatten(-1, (-1, pieces)).max(-1).values


class Maxout(nn.Module):
    """(..., in_features) -> (..., out_features), each the largest of `pieces` affine functions of x.

    `linear` holds the pieces of a unit side by side.
    """

    def __init__(self, in_features: int, out_features: int, pieces: int, bias: bool = True) -> None:
        super().__init__()
        if pieces < 1:
            raise ValueError(f"pieces must be at least 1, got {pieces}")
        self.out_features, self.pieces = out_features, pieces
        self.linear = nn.Linear(in_features, out_features * pieces, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return maxout(self.linear(x), self.pieces)

    def extra_repr(self) -> str:
        return f"out_features={self.out_features}, pieces={self.pieces}"
