"""The term that keeps StackGAN's conditioning augmentation close to N(0, I) (Zhang et al., 2017, section 3.2)."""

from dataclasses import dataclass

import torch
from torch import nn

from fastgan.penalties.terms import CriticFunction, GeneratorTerm, Measured, State


@dataclass(frozen=True)
class ConditioningKL(GeneratorTerm):
    """weight * generator.conditioning_kl(labels). The labels are `condition`, or the critic's. Diagnostics: "kl".

    Errors: TypeError without labels, or for a generator without `conditioning_kl`.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("weight")

    def measure(
        self,
        critic: CriticFunction | None = None,
        *,
        real: torch.Tensor | None = None,
        fake: torch.Tensor | None = None,
        generator: nn.Module | None = None,
        latents: torch.Tensor | None = None,
        condition: torch.Tensor | None = None,
        state: State | None = None,
        rng: torch.Generator | None = None,
    ) -> Measured:
        labels = condition if condition is not None else getattr(critic, "condition", None)
        divergence = getattr(generator, "conditioning_kl", None)
        if labels is None or divergence is None:
            raise TypeError("ConditioningKL needs labels and a class-conditional generator with conditioning_kl")
        kl = divergence(labels)
        return self.weight * kl, {"kl": kl.detach()}
