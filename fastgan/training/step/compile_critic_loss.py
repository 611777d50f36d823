"""The critic's whole loss as one compiled graph, second derivatives included."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fastgan import penalties as _penalties
from fastgan.losses import AdversarialLoss
from fastgan.training.step.objective import Objective, Terms, terms_of


def compile_critic_loss(
    loss: AdversarialLoss, penalties: Sequence[Callable[..., torch.Tensor]] = (), **options: Any
) -> Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]:
    """critic_loss(critic, real, fake, states=None, rng=None) -> (total, values), as Objective.discriminator.

    loss: an AdversarialLoss. penalties: a sequence of them. options: for torch.compile; the whole is one graph
    (fullgraph). states: as `penalties.initial_states` gives them.

    torch compiles a gradient inside a graph only as a part of one function whose inputs are its leaves. Here the leaves
    and all random draws are prepared eagerly, so that numbers equal eager ones; total.backward() is compiled as well.
    The first call compiles, which takes a minute for a large critic.
    """
    return _compiled(Objective(loss, terms_of(penalties, step=None)), options)


class CompiledLosses:
    """A recipe's compiled losses of the critic: one for each set of terms that is due in some step."""

    def __init__(self, loss: AdversarialLoss, mode: bool | str) -> None:
        self._loss, self._mode = loss, None if isinstance(mode, bool) else mode
        self._of: dict[tuple[str, ...], Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]] = {}

    def of(self, terms: Terms) -> Callable[..., tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """The loss of these terms; compiled at the loss's first call."""
        due = tuple(terms.critic)
        if due not in self._of:
            self._of[due] = _compiled(Objective(self._loss, terms), {"mode": self._mode})
        return self._of[due]


def _compiled(objective, options):
    compiled = torch.compile(objective.of_prepared, fullgraph=True, **options)

    def critic_loss(critic, real, fake, *, states=None, rng=None):
        prepared = _penalties.prepare(objective.terms.critic.values(), critic, real, fake, rng=rng)
        with torch._dynamo.config.patch(trace_autograd_ops=True):
            return compiled(critic, prepared, states)

    return critic_loss
