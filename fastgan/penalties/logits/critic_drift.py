"""What keeps a Wasserstein critic near zero (Karras et al., "Progressive Growing of GANs", 2018)."""

from dataclasses import dataclass

import torch

from fastgan.penalties.evaluate import Judged
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.terms import Measured, State


@dataclass(frozen=True)
class CriticDrift(Penalty):
    """weight * E D(real)^2 (their appendix A.1). Diagnostics: "logit", the mean."""

    weight: float = 0.001
    logits = ("real",)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("weight")

    def terms(self, judged: Judged, drawn: torch.Tensor | None, state: State | None) -> Measured:
        logits = judged.logits["real"]
        return self.weight * logits.square().mean(), {"logit": logits.detach().mean()}
