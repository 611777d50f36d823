"""What all terms have in common."""

from dataclasses import dataclass, field

import torch

from fastgan.penalties.evaluate import evaluate


def mean_over_processes(value):
    """A batch's mean as the mean of all processes' batches, which are equally large; as it is without processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    value = value.clone()
    torch.distributed.all_reduce(value)
    return value / torch.distributed.get_world_size()


@dataclass(frozen=True)
class Term:
    every: int = field(default=1, kw_only=True)
    """Lazy regularisation (Karras et al., 2020, appendix B): the term counts in steps that `every` divides, and there
    `every` times. A call gives the plain value; `evaluate(step=)` and the trainer do the counting."""

    def __post_init__(self):
        if not (isinstance(self.every, int) and self.every >= 1):
            self._refuse("every", "an integer of at least 1")

    def initial_state(self):
        """What the term remembers from step to step, a dict of tensors: empty for most. Pass it as `state=` to every
        call; it is updated in place."""
        return {}

    def _refuse(self, name, allowed):
        raise ValueError(f"{type(self).__name__}'s {name} must be {allowed}; got {getattr(self, name)!r}")

    def _require(self, name, at_least=0.0):
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not at_least <= value < float("inf"):
            self._refuse(name, f"a number of at least {at_least:g}")


@dataclass(frozen=True)
class Penalty(Term):
    """A term of the critic's loss. What it needs of the batch is asked for beforehand, so that terms can share it."""

    logits = ()
    """Of which batches it needs the logits: "real", "fake"."""

    gradients = ()
    """At which batches it needs the critic's gradient with respect to the input."""

    def draw(self, real, fake, generator=None):
        """Inputs of the critic of its own, or None: all that is random about it. Outside of a compiled graph."""
        return None

    def check(self, critic):
        """Raises ValueError where it makes no sense for this critic."""

    def terms(self, asked, drawn, state):
        """(value, diagnostics) from what the critic was asked: an `evaluate.Asked`."""
        raise NotImplementedError

    def __call__(self, critic, *, real, fake, state=None, generator=None):
        """0-d tensor, weight included. generator: a torch.Generator for what it draws; else torch's global one."""
        return self.measure(critic, real=real, fake=fake, state=state, generator=generator)[0]

    def measure(self, critic, *, real, fake, state=None, generator=None):
        """(value, diagnostics)"""
        states = None if state is None else [state]
        (term,) = evaluate((self,), critic, real, fake, states=states, generator=generator, loss=False).terms
        return term


@dataclass(frozen=True)
class GeneratorTerm(Term):
    """A term of the generator's loss.

    term(critic, *, real, fake, generator, latents, condition, state) -> 0-d tensor, weight included; `fake` carries the
    generator's graph, and what a term does not use may be left out.
    """

    def __call__(self, critic=None, **given):
        return self.measure(critic, **given)[0]

    def measure(self, critic=None, *, real=None, fake=None, generator=None, latents=None, condition=None, state=None):
        raise NotImplementedError

    def _need(self, **given):
        for name, value in given.items():
            if value is None:
                raise ValueError(f"{type(self).__name__} needs {name}=, got None")


def named(terms):
    """-> (name, term): the term's class or function, numbered where it occurs more than once."""
    seen = {}
    for term in terms:
        name = getattr(term, "__name__", type(term).__name__)
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}_{seen[name]}", term
