"""The distance to the wanted image, for paired data (Isola et al., pix2pix, 2017)."""

from dataclasses import dataclass

import torch
from torch import nn

from fastgan.penalties.terms import CriticFunction, GeneratorTerm, Measured, State


@dataclass(frozen=True)
class L1(GeneratorTerm):
    """weight * E |fake - real|, the mean over all elements: real_i is the image that fake_i should be."""

    weight: float = 100.0

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
        real, fake = self._need(real=real, fake=fake)
        if real.shape != fake.shape:
            raise ValueError(f"L1 compares pairs: real {tuple(real.shape)} and fake {tuple(fake.shape)} must agree")
        distance = (fake - real).abs().mean()
        return self.weight * distance, {"distance": distance.detach()}
