"""StackGAN's smoothing of its conditions (Zhang et al., 2017, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import nn


class ConditioningAugmentation(nn.Module):
    """c (B, F) -> mean(c) + std(c) * noise, (B, dimensions), noise ~ N(0, I): nearby conditions overlap.

    kl(c): E KL(N(mean(c), std(c)^2) || N(0, I)) = E sum (mean^2 + std^2 - 1 - log std^2) / 2, 0-d. per_dimension=True
    takes the mean over the dimensions instead of the sum, as the published code does with a weight of 2.
    """

    def __init__(self, features: int, dimensions: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 2 * dimensions)

    def forward(self, c: torch.Tensor) -> torch.Tensor:
        mean, log_std = self._moments(c)
        return mean + log_std.exp() * torch.randn_like(mean)

    def kl(self, c: torch.Tensor, per_dimension: bool = False) -> torch.Tensor:
        mean, log_std = self._moments(c)
        terms = (mean.square() + (2 * log_std).exp() - 1) / 2 - log_std
        return terms.mean() if per_dimension else terms.sum(1).mean()

    def _moments(self, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, log_std = F.leaky_relu(self.linear(c), 0.2).chunk(2, 1)
        return mean, log_std
