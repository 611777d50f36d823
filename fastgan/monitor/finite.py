"""What of a network is NaN or infinite."""

from collections.abc import Mapping

import torch
from torch import nn


def not_finite(networks: Mapping[str, nn.Module]) -> str | None:
    """The first parameter or buffer that holds NaN or infinity, as words: "buffer norm.running_var of the generator".

    networks: name -> module. None if all are finite.
    """
    for name, network in networks.items():
        tensors: dict[str, torch.Tensor] = {f"parameter {key}": p for key, p in network.named_parameters()}
        tensors |= {f"buffer {key}": b for key, b in network.named_buffers() if b.is_floating_point()}
        finite = [t.detach().isfinite().all() for t in tensors.values()]
        if finite and not all(flag.item() for flag in finite):
            return next(f"{key} of the {name}" for key, fine in zip(tensors, finite, strict=True) if not fine)
    return None
