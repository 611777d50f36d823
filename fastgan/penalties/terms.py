"""The protocol of a term: its roles, when the term counts, what the term remembers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, TypeVar, cast

import torch
from torch import nn

CriticFunction = Callable[[torch.Tensor], torch.Tensor]  # samples -> logits: a module, a Critic, a plain function
State = dict[str, torch.Tensor]
Measured = tuple[torch.Tensor, dict[str, torch.Tensor]]  # the value, weight included, and the diagnostics
Value = TypeVar("Value")

CRITIC, GENERATOR, CONSTRAINT = "critic", "generator", "constraint"


@dataclass(frozen=True)
class Term:
    """A summand of a loss, or a constraint on weights."""

    roles: ClassVar[tuple[str, ...]] = ()
    """What the term may be: "critic" in the critic's loss, "generator" in the generator's, "constraint" on the critic's
    weights. A term with two roles has a method for each."""

    aimed_norm: ClassVar[str | None] = None
    """The field that holds the norm at which the term aims the critic's gradient; None for a term that aims at none."""

    factors: ClassVar[tuple[str, ...]] = ("weight",)
    """The fields that multiply the term's value and do nothing else. If a recipe schedules such a field, then the field
    is a 0-d tensor in training: a loss that is compiled or captured once follows the schedule."""

    every: int = field(default=1, kw_only=True)
    """Lazy regularisation (Karras et al., 2020, appendix B): the term counts in steps that `every` divides, and there
    `every` times. A call gives the plain value; `evaluate(step=)` and the trainer count."""

    def __post_init__(self) -> None:
        if not (isinstance(self.every, int) and self.every >= 1):
            self._refuse("every", "an integer of at least 1")

    @property
    def name(self) -> str:
        return type(self).__name__

    def is_due(self, step: int | None) -> bool:
        """Whether the term counts in this step; step None: a call outside of a training loop, in which all count."""
        return step is None or step % self.every == 0

    def factor(self, step: int | None) -> int:
        """How often the term counts in a step in which the term is due."""
        return 1 if step is None else self.every

    def counted(self, measured: Measured, step: int | None) -> Measured:
        """What the term adds at a step: its value as often as `factor` says, and the diagnostics."""
        factor, (value, diagnostics) = self.factor(step), measured
        return value if factor == 1 else factor * value, diagnostics

    def initial_state(self) -> State:
        """What the term remembers from step to step, a dict of tensors: empty for most. Pass the state as `state=` to
        every call, which updates the state in place."""
        return {}

    def _refuse(self, name: str, allowed: str) -> NoReturn:
        raise ValueError(f"{self.name}'s {name} must be {allowed}; got {getattr(self, name)!r}")

    def _require(self, name: str, at_least: float = 0.0) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not at_least <= value < float("inf"):
            self._refuse(name, f"a number of at least {at_least:g}")

    def _need(self, **given: Value | None) -> list[Value]:
        """The values. Errors: ValueError if one is None."""
        values = []
        for name, value in given.items():
            if value is None:
                raise ValueError(f"{self.name} needs {name}=, got None")
            values.append(value)
        return values


@dataclass(frozen=True)
class CriticTerm(Term):
    """A term of the critic's loss. A term declares what it needs of the batch, so that terms share passes."""

    roles: ClassVar[tuple[str, ...]] = (CRITIC,)

    logits: ClassVar[tuple[str, ...]] = ()
    """Of which batches the term needs the logits: "real", "fake"."""

    gradients: ClassVar[tuple[str, ...]] = ()
    """At which batches the term needs the critic's gradient with respect to the input."""

    def check(self, critic: CriticFunction, real: torch.Tensor, fake: torch.Tensor, coupling: Any) -> None:
        """Errors: ValueError for a critic or batches for which the term has no meaning. coupling: the critic's."""
        if real.shape != fake.shape:
            raise ValueError(f"real {tuple(real.shape)} and fake {tuple(fake.shape)} must have the same shape")

    def draw(self, real: torch.Tensor, fake: torch.Tensor, rng: torch.Generator | None = None) -> torch.Tensor | None:
        """The term's own inputs of the critic, or None: all that is random in the term. Outside of a compiled graph."""
        return None

    def terms(self, judged: Any, drawn: torch.Tensor | None, state: State | None) -> Measured:
        """(value, diagnostics) from what the critic returned: an `evaluate.Judged`."""
        raise NotImplementedError


@dataclass(frozen=True)
class GeneratorTerm(Term):
    """A term of the generator's loss.

    term(critic, *, real, fake, generator, latents, condition, state, rng) -> 0-d tensor, weight included. fake carries
    the generator's graph; generator is the network, rng a torch.Generator. What a term does not use may be left out.
    """

    roles = (GENERATOR,)

    def __call__(self, critic: CriticFunction | None = None, **given: Any) -> torch.Tensor:
        return self.measure(critic, **given)[0]

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
        """(value, diagnostics)"""
        raise NotImplementedError

    def of_generator(self, critic: CriticFunction | None, **given: Any) -> Measured:
        return self.measure(critic, **given)


@dataclass(frozen=True)
class Constraint(Term):
    """A constraint on the critic's weights: apply_(module), "before" or "after" the optimiser's step, as `when` is."""

    roles = (CONSTRAINT,)
    when = "after"

    def apply_(self, module: nn.Module) -> nn.Module:
        raise NotImplementedError


@dataclass(frozen=True)
class FunctionTerm(CriticTerm):
    """A user's function as a term, with the function's `every` if it has one.

    In the critic's loss function(critic, real=, fake=) -> 0-d tensor; in the generator's loss
    function(critic, real=, fake=, generator=, latents=, condition=).
    """

    roles: ClassVar[tuple[str, ...]] = (CRITIC, GENERATOR)
    function: Callable[..., torch.Tensor] = None  # type: ignore[assignment]  # always given; `every` before it has a default

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def check(self, critic: CriticFunction, real: torch.Tensor, fake: torch.Tensor, coupling: Any) -> None:
        """The function sees to the batches itself."""

    def terms(self, judged: Any, drawn: torch.Tensor | None, state: State | None) -> Measured:
        return self.function(judged.critic, real=judged.real, fake=judged.fake), {}

    def of_generator(
        self,
        critic: CriticFunction | None,
        *,
        state: State | None = None,
        rng: torch.Generator | None = None,
        **given: Any,
    ) -> Measured:
        return self.function(critic, **given), {}


def as_term(term: Any) -> Any:
    """The term itself, or a function as a term. Errors: TypeError for what cannot be called."""
    if isinstance(term, Term):
        return term
    if not callable(term):
        raise TypeError(f"a term must be callable, penalty(critic, real=, fake=); got {term!r}")
    return FunctionTerm(function=cast(Callable[..., torch.Tensor], term), every=getattr(term, "every", 1))


def with_role(terms: Iterable[Any], role: str) -> dict[str, Any]:
    """-> name -> term, of those terms that have the role; numbered when a name occurs more than once."""
    found: dict[str, Any] = {}
    seen: dict[str, int] = {}
    for term in map(as_term, terms):
        seen[term.name] = seen.get(term.name, 0) + 1
        if role in term.roles:
            found[term.name if seen[term.name] == 1 else f"{term.name}_{seen[term.name]}"] = term
    return found


@torch.no_grad()
def move_averages(state: State, decay: float, **means: torch.Tensor) -> list[torch.Tensor]:
    """state[name] <- decay * state[name] + (1 - decay) * mean, in place; the first mean replaces the initial value.

    state["updates"] counts the moves. Returns the averages, copies on the means' devices, in the order of the names.
    """
    share = torch.where(state["updates"] == 0, 1.0, 1 - decay)
    for name, mean in means.items():
        state[name].lerp_(mean.to(state[name]), share.to(state[name].dtype))
    state["updates"] += 1
    return [state[name].to(mean.device, copy=True) for name, mean in means.items()]
