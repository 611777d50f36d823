"""Balanced consistency regularisation (Zhao et al., "Improved Consistency Regularization for GANs", 2020)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fastgan.augment.flip_shift import AUGMENTATIONS
from fastgan.penalties.evaluate import Judged
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.terms import Measured, State


@dataclass(frozen=True)
class Consistency(Penalty):
    """real_weight * E |D(x) - D(T(x))|^2 + fake_weight * E |D(y) - D(T(y))|^2 on real x and generated y.

    bCR, their Algorithm 1; fake_weight=0 is CR-GAN. augment: T, a function of a batch (B, C, H, W) that changes every
    sample on its own, or a name: "flip", "shift", "flip_shift" (theirs: mirror, and shift by a few pixels).
    Diagnostics: "real" and "fake", the two means without their weights.
    """

    real_weight: float = 10.0
    fake_weight: float = 10.0
    augment: str | Callable = "flip_shift"
    logits = ("real", "fake")
    factors = ("real_weight", "fake_weight")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("real_weight")
        self._require("fake_weight")
        if not callable(self.augment) and self.augment not in AUGMENTATIONS:
            self._refuse("augment", f"a function or one of {', '.join(AUGMENTATIONS)}")

    def draw(self, real: torch.Tensor, fake: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor:
        if callable(self.augment):
            changed = [self.augment(batch) for batch in (real, fake)]
        elif real.dim() != 4:
            raise ValueError(
                f"Consistency(augment={self.augment!r}) changes images (B, C, H, W), and these samples have shape"
                f" {tuple(real.shape[1:])}; give augment a function of a batch for them"
            )
        else:
            changed = [AUGMENTATIONS[self.augment](batch, rng) for batch in (real, fake)]
        return torch.cat(changed)

    def terms(self, judged: Judged, drawn: torch.Tensor | None, state: State | None) -> Measured:
        assert drawn is not None  # from `draw`
        changed = judged.of_two(drawn)
        real, fake = (
            (judged.logits[name] - logits).square().mean()
            for name, logits in zip(("real", "fake"), changed, strict=True)
        )
        diagnostics = {"real": real.detach(), "fake": fake.detach()}
        return self.real_weight * real + self.fake_weight * fake, diagnostics
