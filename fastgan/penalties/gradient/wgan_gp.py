"""WGAN-GP (Gulrajani et al., 2017)."""

from dataclasses import dataclass
from typing import Any

import torch

from fastgan.penalties.gradient.gradient_penalty import GradientPenalty, per_sample


@dataclass(frozen=True)
class WGANGP(GradientPenalty):
    """weight * mean_i (|grad D(x_i)| - target)^2 at x_i = e_i real_i + (1 - e_i) fake_i, e_i ~ U[0, 1) for each sample.

    one_sided: relu(|grad D| - target)^2, only steep places cost (their section 4).
    Algorithm 1 has weight 10 and target 1; their toy experiments weight 0.1. Norm, modes and errors: GradientPenalty.
    """

    aimed_norm = "target"

    weight: float = 10.0
    target: float = 1.0
    one_sided: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("weight")
        self._require("target")

    def draw(self, real: torch.Tensor, fake: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        # torch.lerp is one pass that writes nothing but its result, in x's memory format: the bytes cannot be fewer.
        return torch.lerp(fake, real, per_sample(torch.rand, real, rng)).requires_grad_()

    def arithmetic(self) -> tuple[float, dict[str, Any]]:
        return self.weight, {"target": self.target, "kind": "one-sided" if self.one_sided else "two-sided"}
