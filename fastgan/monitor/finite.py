"""What of a network is NaN or infinite."""

from collections.abc import Mapping

import torch
from torch import nn


def not_finite(networks: Mapping[str, nn.Module], gradients: bool = False) -> str | None:
    """The first tensor that holds NaN or infinity, as words: "buffer norm.running_var of the generator".

    networks: name -> module; of each the parameters, then the buffers. gradients: look at those of all networks first.
    None if all are finite.
    """
    if gradients:
        for name, network in networks.items():
            given = {f"gradient {key}": p.grad for key, p in network.named_parameters() if p.grad is not None}
            if found := _first(given):
                return f"{found} of the {name}"
    for name, network in networks.items():
        tensors: dict[str, torch.Tensor] = {f"parameter {key}": p for key, p in network.named_parameters()}
        tensors |= {f"buffer {key}": b for key, b in network.named_buffers() if b.is_floating_point()}
        if found := _first(tensors):
            return f"{found} of the {name}"
    return None


def _first(tensors: Mapping[str, torch.Tensor]) -> str | None:
    finite = [t.detach().isfinite().all() for t in tensors.values()]
    return next((key for key, fine in zip(tensors, finite, strict=True) if not fine), None)
