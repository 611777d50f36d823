"""How much the samples of a minibatch differ, as an input of the discriminator (Karras et al., 2018, section 3)."""

import torch
from torch import nn


class MinibatchStdDev(nn.Module):
    """x (B, C, ...) -> (B, C + 1, ...): one more channel, in which each group of samples has one number.

    That number is mean(sqrt(var + 1e-8)) over C and all positions, var the biased variance over the group's samples.
    Groups have `group_size` samples, or the largest smaller number that divides B, and are strided: with n groups,
    samples b and b + n share one. As in ProGAN's published code; on a collapsed group the number is 1e-4.

    dtypes: any floating; computed in float32 (float64 for float64). Derivatives: of any order, finite where var = 0.
    """

    couples_samples = True  # a logit depends on the batch's other samples

    def __init__(self, group_size: int = 4) -> None:
        super().__init__()
        if not isinstance(group_size, int) or group_size < 1:
            raise ValueError(f"group_size must be an integer of at least 1, got {group_size!r}")
        self.group_size = group_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dim() < 2 or x.shape[0] == 0:
            raise ValueError(f"x must have shape (batch, channels, ...), got {tuple(x.shape)}")
        batch = x.shape[0]
        group = next(size for size in range(min(self.group_size, batch), 0, -1) if batch % size == 0)
        y = x.unflatten(0, (group, -1))  # (group, B / group, C, ...)
        y = y if x.dtype == torch.float64 else y.float()
        deviation = (y - y.mean(0)).square().mean(0).add(1e-8).sqrt()  # (B / group, C, ...)
        number = deviation.flatten(1).mean(1).repeat(group).to(x.dtype)  # (B,)
        channel = number.reshape(batch, *[1] * (x.dim() - 1)).expand(batch, 1, *x.shape[2:])
        return torch.cat([x, channel], 1)

    def extra_repr(self) -> str:
        return f"group_size={self.group_size}"
