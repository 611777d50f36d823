"""A term of the critic's loss as a function."""

from dataclasses import dataclass

from fastgan.penalties.evaluate import evaluate
from fastgan.penalties.terms import CriticTerm


@dataclass(frozen=True)
class Penalty(CriticTerm):
    """A term of the critic's loss: penalty(critic, real=x, fake=y) -> 0-d tensor, weight included."""

    def __call__(self, critic, *, real, fake, state=None, rng=None):
        """rng: a torch.Generator for what the penalty draws; None for torch's global one."""
        return self.measure(critic, real=real, fake=fake, state=state, rng=rng)[0]

    def measure(self, critic, *, real, fake, state=None, rng=None):
        """(value, diagnostics)"""
        states = None if state is None else [state]
        (term,) = evaluate((self,), critic, real, fake, states=states, rng=rng, loss=False).terms
        return term
