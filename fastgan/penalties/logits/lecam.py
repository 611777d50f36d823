"""LeCam regularisation, for little data (Tseng et al., "Regularizing GANs under Limited Data", 2021)."""

from dataclasses import dataclass
from typing import Literal

import torch

from fastgan import processes
from fastgan.penalties.evaluate import Judged
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.terms import Measured, State, move_averages


@dataclass(frozen=True)
class LeCam(Penalty):
    """weight * (E (D(real) - a_fake)^2 + E (D(fake) - a_real)^2), a the moving averages of the critic's logits.

    The averages move first, a <- decay * a + (1 - decay) * mean, and start at the first batch's means; they are
    constants for the gradient. State: "real", "fake", "updates", 0-d. Means are over the batches of all processes.
    variant "paper": equation 4. variant "code": relu(D(real) - a_fake)^2 and relu(a_real - D(fake))^2, as published.
    Diagnostics: "average_real", "average_fake".
    """

    weight: float = 0.3
    decay: float = 0.99
    variant: Literal["paper", "code"] = "paper"
    logits = ("real", "fake")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("weight")
        if not 0 <= self.decay < 1:
            self._refuse("decay", "a number in [0, 1)")
        if self.variant not in ("paper", "code"):
            self._refuse("variant", '"paper" or "code"')

    def initial_state(self) -> State:
        return {name: torch.zeros(()) for name in ("real", "fake", "updates")}

    def terms(self, judged: Judged, drawn: torch.Tensor | None, state: State | None) -> Measured:
        if not state:
            raise ValueError("LeCam remembers averages: pass state=, a dict from its initial_state(), to every call")
        real, fake = (judged.logits[name] for name in ("real", "fake"))
        means = {"real": processes.mean(real.detach().mean()), "fake": processes.mean(fake.detach().mean())}
        average_real, average_fake = move_averages(state, self.decay, **means)
        over, under = real - average_fake, average_real - fake
        if self.variant == "code":
            over, under = over.relu(), under.relu()
        value = self.weight * (over.square().mean() + under.square().mean())
        return value, {"average_real": average_real, "average_fake": average_fake}
