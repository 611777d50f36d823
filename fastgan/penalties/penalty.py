"""A term of the critic's loss as a function."""

from dataclasses import dataclass

import torch

from fastgan.penalties.evaluate import evaluate
from fastgan.penalties.terms import CriticFunction, CriticTerm, Measured, State


@dataclass(frozen=True)
class Penalty(CriticTerm):
    """A term of the critic's loss: penalty(critic, real=x, fake=y) -> 0-d tensor, weight included."""

    def __call__(
        self,
        critic: CriticFunction,
        *,
        real: torch.Tensor,
        fake: torch.Tensor,
        state: State | None = None,
        rng: torch.Generator | None = None,
    ) -> torch.Tensor:
        """rng: a torch.Generator for what the penalty draws; None for torch's global one."""
        return self.measure(critic, real=real, fake=fake, state=state, rng=rng)[0]

    def measure(
        self,
        critic: CriticFunction,
        *,
        real: torch.Tensor,
        fake: torch.Tensor,
        state: State | None = None,
        rng: torch.Generator | None = None,
    ) -> Measured:
        """(value, diagnostics)"""
        states = None if state is None else [state]
        (term,) = evaluate((self,), critic, real, fake, states=states, rng=rng, loss=False).terms
        assert term is not None  # without a step, every term is due
        return term
