"""A critic's loss and its penalties from as few passes of the critic as the mathematics allow.

What is random or a leaf is prepared first (`prepare`), the rest follows from it (`evaluate_prepared`): torch.compile
needs the inputs of a gradient inside its graph to be leaves outside of it, and draws other random numbers than eager.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, cast

import torch

from fastgan.penalties.critic import checked_logits, coupling_of
from fastgan.penalties.gradient.input_gradient import input_gradient
from fastgan.penalties.terms import CONSTRAINT, CRITIC, CriticFunction, CriticTerm, Measured, State, as_term

NAMES = ("real", "fake")


class Visitor(Protocol):
    """How a critic is called on a batch: `Ordinary`, or what records the passes of `four_passes`."""

    def logits(self, critic: CriticFunction, x: torch.Tensor) -> torch.Tensor: ...

    def logits_and_gradient(
        self, critic: CriticFunction, x: torch.Tensor, allow_coupled: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]: ...


class Evaluation(NamedTuple):
    """The logits of a critic on both batches, and the values of its penalties."""

    real_logits: torch.Tensor
    fake_logits: torch.Tensor
    terms: list[Measured | None]
    """(value, diagnostics) for each penalty, in their order; None for one that is not due."""


class Prepared(NamedTuple):
    """The critic's inputs: the batches as they came, those that it is differentiated at as leaves, what each penalty
    drew, and whether the critic judges both batches in one call."""

    real: torch.Tensor
    fake: torch.Tensor
    leaves: tuple[torch.Tensor, ...]
    drawn: tuple[torch.Tensor | None, ...]
    joint: bool = True


class Judged(NamedTuple):
    """What penalties are given: the critic, the batches, and the critic's logits and gradients on them."""

    critic: CriticFunction
    real: torch.Tensor
    fake: torch.Tensor
    logits: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]
    joint: bool
    visit: Visitor
    """How the critic is called on the batches: `Ordinary`, or what records the passes of `four_passes`."""

    def judge(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of further samples."""
        return checked_logits(self.critic(x))

    def of_two(self, batches: torch.Tensor) -> Sequence[torch.Tensor]:
        """Logits of two batches of equal size, given as one."""
        return self.judge(batches).chunk(2) if self.joint else [self.judge(half) for half in batches.chunk(2)]


class Ordinary:
    """Calls of the critic with autograd's graph."""

    @staticmethod
    def logits(critic: CriticFunction, x: torch.Tensor) -> torch.Tensor:
        return checked_logits(critic(x))

    @staticmethod
    def logits_and_gradient(
        critic: CriticFunction, x: torch.Tensor, allow_coupled: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = checked_logits(critic(x))
        return logits, input_gradient(logits, x, allow_coupled)


def evaluate(
    penalties: Iterable[CriticTerm | Callable[..., torch.Tensor]],
    critic: CriticFunction,
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    states: Sequence[State | None] | None = None,
    step: int | None = None,
    rng: torch.Generator | None = None,
    loss: bool = True,
    through_samples: bool = False,
    visit: Visitor = Ordinary,
) -> Evaluation:
    """Evaluation: the logits of real and fake, for the loss, and the penalties' values.

    One pass of the critic gives both logits if the critic does not couple samples. R1 and R2 together add one gradient
    of this pass. R1 or R2 without the other adds the gradient of its half. The results are those of separate calls.
    A pass also changes the critic (a power iteration of spectral norm, running statistics): there are fewer changes.

    penalties: of this package, or any function penalty(critic, real=, fake=) -> scalar.
    critic: a function of samples, best a module or a fastgan.penalties.Critic.
    states: a list with a state for each penalty, from `initial_states`; updated in place.
    step: count lazily. A penalty with an `every` that does not divide step is None, the others count `every` times.
    rng: a torch.Generator for the random draws; None for torch's global one. loss: whether to return the logits.
    through_samples: the values keep the graph of real and fake, for unrolling. Otherwise these are constants.
    Errors: ValueError, TypeError of the penalties; TypeError for a critic that does not return a tensor.
    """
    judges = _terms(penalties)
    due = [i for i, penalty in enumerate(judges) if penalty.is_due(step)]
    counted = tuple(judges[i] for i in due)
    prepared = prepare(counted, critic, real, fake, rng=rng, through_samples=through_samples)
    states = None if states is None else [states[i] for i in due]
    found = evaluate_prepared(counted, critic, prepared, states=states, loss=loss, visit=visit)
    terms: list[Measured | None] = [None] * len(judges)
    for i, penalty, measured in zip(due, counted, found.terms, strict=True):
        assert measured is not None  # all that are counted are due
        terms[i] = penalty.counted(measured, step)
    return found._replace(terms=terms)


def initial_states(penalties: Iterable[CriticTerm | Callable[..., torch.Tensor]]) -> list[State]:
    """A state for each penalty: what those with a memory remember, {} for the others."""
    return [penalty.initial_state() for penalty in _terms(penalties)]


def prepare(
    penalties: Iterable[CriticTerm | Callable[..., torch.Tensor]],
    critic: CriticFunction,
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    rng: torch.Generator | None = None,
    through_samples: bool = False,
) -> Prepared:
    """Prepared, after the checks. Errors: ValueError, TypeError of the penalties."""
    judges = _terms(penalties)
    coupling = coupling_of(critic, real, fake)
    for penalty in judges:
        penalty.check(critic, real, fake, coupling)
    joint = coupling.joint
    samples = (real, fake) if through_samples else (real.detach(), fake.detach())
    with torch.set_grad_enabled(through_samples):
        drawn = tuple(penalty.draw(*samples, rng) for penalty in judges)
        differentiated = _wanted(judges, "gradients")
        if len(differentiated) == 2 and joint:
            points = [torch.cat(samples)]
        else:
            points = [samples[NAMES.index(name)] for name in differentiated]
        leaves = tuple(x if x.requires_grad else x.detach().requires_grad_() for x in points)
        return Prepared(real, fake, leaves, drawn, joint)


def evaluate_prepared(
    penalties: Iterable[CriticTerm | Callable[..., torch.Tensor]],
    critic: CriticFunction,
    prepared: Prepared,
    *,
    states: Sequence[State | None] | None = None,
    loss: bool = True,
    visit: Visitor = Ordinary,
) -> Evaluation:
    """Evaluation of what `prepare` returned, with the same penalties: a function without randomness."""
    judges = _terms(penalties)
    states = states or [None] * len(judges)
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad() if judges else torch.set_grad_enabled(differentiable):
        judged = _judge(judges, critic, prepared, loss, visit)
        terms = [
            penalty.terms(judged, drawn, state)
            for penalty, drawn, state in zip(judges, prepared.drawn, states, strict=True)
        ]
    real_logits, fake_logits = (judged.logits.get(name) for name in NAMES)  # None unless something wants them
    if not differentiable:  # only the gradients inside needed a graph
        terms = [(value.detach(), diagnostics) for value, diagnostics in terms]
        real_logits, fake_logits = (t if t is None else t.detach() for t in (real_logits, fake_logits))
    return Evaluation(cast(torch.Tensor, real_logits), cast(torch.Tensor, fake_logits), list(terms))


def _judge(
    penalties: Sequence[CriticTerm], critic: CriticFunction, prepared: Prepared, loss: bool, visit: Visitor
) -> Judged:
    differentiated = _wanted(penalties, "gradients")
    needed = NAMES if loss else _wanted(penalties, "logits")
    meant = all(getattr(penalty, "allow_coupled", True) for penalty in penalties if penalty.gradients)
    judged = Judged(critic, prepared.real, prepared.fake, {}, {}, prepared.joint, visit)
    logits, gradients, sizes = judged.logits, judged.gradients, [len(prepared.real), len(prepared.fake)]
    if len(differentiated) == 2 and prepared.joint:
        (both,) = prepared.leaves
        found, gradient = visit.logits_and_gradient(critic, both, meant)
        logits |= _split(found, sizes)
        gradients |= _split(gradient, sizes)
        return judged
    alike = prepared.real.shape[1:] == prepared.fake.shape[1:]
    if not differentiated and len(needed) == 2 and prepared.joint and alike:
        logits |= _split(visit.logits(critic, torch.cat([prepared.real, prepared.fake])), sizes)
    for name in NAMES:  # in this order, for what a pass changes in the critic
        if name in differentiated:
            leaf = prepared.leaves[differentiated.index(name)]
            logits[name], gradients[name] = visit.logits_and_gradient(critic, leaf, meant)
        elif name in needed and name not in logits:
            logits[name] = visit.logits(critic, getattr(prepared, name))
    return judged


def _split(joined, sizes):
    if joined.shape[:1] != (sum(sizes),):
        raise ValueError(
            f"a critic with couples_samples = False must return a row of logits a sample; this one returns logits"
            f" {tuple(joined.shape)} for {sum(sizes)} samples: remove the attribute"
        )
    return dict(zip(NAMES, joined.split(sizes), strict=True))


def _terms(penalties: Iterable[CriticTerm | Callable[..., torch.Tensor]]) -> tuple[CriticTerm, ...]:
    """Functions as terms. Errors: TypeError for what is not a term of a critic's loss."""
    judges = tuple(map(as_term, penalties))
    for penalty in judges:
        if CRITIC not in penalty.roles:
            kind = "a constraint, call its apply_(module)" if CONSTRAINT in penalty.roles else "a generator's term"
            raise TypeError(f"penalties must be terms of the critic's loss; {penalty!r} is {kind}")
    return judges


def _wanted(penalties: Iterable[CriticTerm], what: str) -> list[str]:
    """The batches that a penalty wants logits of, or gradients at, each once."""
    return [name for name in NAMES if any(name in getattr(p, what) for p in penalties)]
