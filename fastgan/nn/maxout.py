"""Maxout units (Goodfellow et al., 2013)."""

from torch import nn


class Maxout(nn.Module):
    """(..., in_features) -> (..., out_features), each the largest of `pieces` affine functions of x.

    `linear` holds the pieces of a unit side by side. The largest is taken by max(dim), whose derivatives, to any order,
    go to one of several equal pieces; amax would share them out, and its backward takes longer.
    """

    def __init__(self, in_features, out_features, pieces, bias=True):
        super().__init__()
        if pieces < 1:
            raise ValueError(f"pieces must be at least 1, got {pieces}")
        self.out_features, self.pieces = out_features, pieces
        self.linear = nn.Linear(in_features, out_features * pieces, bias)

    def forward(self, x):
        return self.linear(x).unflatten(-1, (self.out_features, self.pieces)).max(-1).values

    def extra_repr(self):
        return f"out_features={self.out_features}, pieces={self.pieces}"
