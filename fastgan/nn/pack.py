"""Packing: the discriminator judges m samples at once (PacGAN, Lin et al., 2018)."""

import torch
from torch import nn


class Pack(nn.Module):
    """discriminator(x) of packs: x (m B, C, ...), m consecutive samples joined along C -> module of (B, m C, ...).

    A collapsed generator's packs lack the variety that a real pack has, which a single sample cannot show. The module
    is a discriminator; its first layer takes m C channels (or features). A condition is packed too: labels (m B,) to
    (B, m), images along their channels. m = 1 changes nothing. Errors: ValueError if m does not divide the batch.
    """

    def __init__(self, module: nn.Module, m: int) -> None:
        super().__init__()
        if not isinstance(m, int) or m < 1:
            raise ValueError(f"m must be an integer of at least 1, got {m!r}")
        self.module, self.m = module, m
        self.couples_samples = m > 1

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        if condition is None:
            return self.module(self.pack(x))
        return self.module(self.pack(x), self.pack(condition))

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """(m B, C, ...) -> (B, m C, ...); (m B,) -> (B, m). A view if x is contiguous."""
        if self.m == 1:
            return x
        if x.shape[0] % self.m:
            raise ValueError(f"the batch must be a multiple of m={self.m}, got {x.shape[0]} samples")
        packs = x.unflatten(0, (-1, self.m))  # (B, m, C, ...)
        return packs.flatten(1, 2) if x.dim() > 1 else packs

    def extra_repr(self) -> str:
        return f"m={self.m}"
