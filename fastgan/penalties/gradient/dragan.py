"""DRAGAN (Kodali et al., 2017)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from fastgan import processes, randomness
from fastgan.penalties.gradient.gradient_penalty import GradientPenalty, per_sample


@dataclass(frozen=True)
class DRAGAN(GradientPenalty):
    """weight * mean_i (|grad D(x_i + d_i)| - k)^2 around the real samples x.

    variant "paper": d ~ N(0, c I), c in squared units of the data (the default is the paper's, for its own scale).
    variant "code", the published program: d = a_i * s / 2 * U[0, 1) per element, with a_i ~ U[0, 1) for each sample and
        s the (biased) standard deviation of all elements of the batch at hand, over all processes: it shifts upwards
        only, and s differs between micro-batches.
    Norm, modes and errors: GradientPenalty.
    """

    aimed_norm = "k"

    weight: float = 10.0
    k: float = 1.0
    variant: Literal["paper", "code"] = "paper"
    c: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in ("paper", "code"):
            self._refuse("variant", '"paper" or "code"')
        for name in ("weight", "k", "c"):
            self._require(name)

    def draw(self, real: torch.Tensor, fake: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        def like(random):
            return randomness.of_batch(random, real.shape, generator=rng, device=real.device, dtype=real.dtype)

        if self.variant == "paper":
            x = real + self.c**0.5 * like(torch.randn)
        else:
            mean = processes.mean(real.mean())
            spread = processes.mean((real - mean).square().mean()).sqrt()
            scale = spread / 2 * per_sample(torch.rand, real, rng)
            x = torch.addcmul(real, scale, like(torch.rand))
        return x.requires_grad_()

    def arithmetic(self) -> tuple[float, dict[str, Any]]:
        return self.weight, {"target": self.k}
