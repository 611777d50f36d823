"""Packing: the discriminator judges m samples at once (PacGAN, Lin et al., 2018)."""

from typing import overload

import torch
from torch import nn


@overload
def pack(x: torch.Tensor, m: int) -> torch.Tensor: ...
@overload
def pack(x: None, m: int) -> None: ...
@overload
def pack(x: torch.Tensor | None, m: int) -> torch.Tensor | None: ...
def pack(x: torch.Tensor | None, m: int) -> torch.Tensor | None:
    """(m B, C, ...) -> (B, m C, ...); labels (m B,) -> (B, m). A view, when x is contiguous; None stays None.

    Errors: ValueError if m does not divide the batch.
    """
    if m == 1 or x is None:
        return x
    if len(x) % m:
        raise ValueError(f"the batch must be a multiple of m={m}, got {len(x)} samples")
    packs = x.unflatten(0, (-1, m))  # (B, m, C, ...)
    return packs.flatten(1, 2) if x.dim() > 1 else packs


def unpack(x: torch.Tensor, m: int) -> torch.Tensor:
    """The inverse of pack for samples: (B, m C, ...) -> (m B, C, ...)."""
    return x if m == 1 else x.unflatten(1, (m, -1)).flatten(0, 1)


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
        if m > 1:  # a pack of one couples samples when the module does
            self.couples_samples = True

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        return self.module(self.pack(x)) if condition is None else self.module(self.pack(x), self.pack(condition))

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """(m B, C, ...) -> (B, m C, ...); (m B,) -> (B, m)."""
        return pack(x, self.m)

    def extra_repr(self) -> str:
        return f"m={self.m}"
