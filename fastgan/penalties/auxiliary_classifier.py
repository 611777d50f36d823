"""The auxiliary classifier's term of either network's loss (AC-GAN, Odena et al., 2017, section 4)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn.functional import cross_entropy

from fastgan.nn.couples_samples import Coupling
from fastgan.penalties.evaluate import Judged
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.terms import CRITIC, GENERATOR, CriticFunction, Measured, State


@dataclass(frozen=True)
class AuxiliaryClassifier(Penalty):
    """weight * (-E log P(class | x) - E log P(class | G(z))) in the critic's loss, the second half in the generator's.

    A call, and a recipe's `penalties`, give the critic's term; `of_generator`, and a recipe's `generator_terms`, give
    the generator's. The labels are the critic's `condition`. The critic's `discriminator` has `classify` (a model with
    head="auxiliary"). Derivatives: of the order that the discriminator has. Errors: TypeError without labels or head.
    """

    roles: ClassVar[tuple[str, ...]] = (CRITIC, GENERATOR)

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("weight")

    def check(self, critic: CriticFunction, real: torch.Tensor, fake: torch.Tensor, coupling: Coupling) -> None:
        _classify(critic)

    def terms(self, judged: Judged, drawn: torch.Tensor | None, state: State | None) -> Measured:
        classify, labels = _classify(judged.critic)
        value = cross_entropy(classify(judged.fake), labels) + cross_entropy(classify(judged.real), labels)
        return self.weight * value, {}

    def of_generator(self, critic: CriticFunction | None, *, fake: torch.Tensor, **given: Any) -> Measured:
        """(value, diagnostics) of the generator's loss; fake carries the generator's graph."""
        classify, labels = _classify(critic)
        return self.weight * cross_entropy(classify(fake), labels), {}


def _classify(critic: CriticFunction | None) -> tuple[Callable[[torch.Tensor], torch.Tensor], torch.Tensor]:
    """-> (x -> logits of the classes, labels)"""
    classify = getattr(getattr(critic, "discriminator", None), "classify", None)
    labels = getattr(critic, "condition", None)
    if classify is None or labels is None:
        raise TypeError(
            "AuxiliaryClassifier needs labels and a discriminator made with head='auxiliary':"
            " pass fastgan.penalties.Critic(discriminator, labels) as critic"
        )
    return classify, labels
