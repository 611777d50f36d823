"""A critic's loss and its penalties from as few passes of the critic as the mathematics allow.

What is random or a leaf is prepared first (`prepare`), the rest follows from it (`evaluate_prepared`): torch.compile
needs the inputs of a gradient inside its graph to be leaves outside of it, and draws other random numbers than eager.
"""

from typing import NamedTuple

import torch

from fastgan.nn.couples_samples import couples_samples
from fastgan.penalties.critic import module_of
from fastgan.penalties.gradient.input_gradient import input_gradient


class Evaluation(NamedTuple):
    real_logits: torch.Tensor
    fake_logits: torch.Tensor
    terms: list
    """(value, diagnostics) for each penalty, in their order; None for one that is not due."""


class Prepared(NamedTuple):
    """The critic's inputs: the batches as they came, those that it is differentiated at as leaves, and what each
    penalty drew."""

    real: torch.Tensor
    fake: torch.Tensor
    leaves: tuple
    drawn: tuple


class Asked(NamedTuple):
    """What penalties are given: the critic and its answers on the batch."""

    critic: object
    logits: dict
    gradients: dict
    coupled: bool
    visit: object
    """How the critic is called: `Ordinary`, or what records the passes of `four_passes`."""

    def of_two(self, batches):
        """Logits of two batches of equal size, given as one."""
        halves = batches.chunk(2)
        return [self.critic(half) for half in halves] if self.coupled else self.critic(batches).chunk(2)


class Ordinary:
    """Calls of the critic with autograd's own graph."""

    @staticmethod
    def logits(critic, x):
        return critic(x)

    @staticmethod
    def logits_and_gradient(critic, x):
        logits = critic(x)
        return logits, input_gradient(logits, x)


def evaluate(
    penalties,
    critic,
    real,
    fake,
    *,
    states=None,
    step=None,
    generator=None,
    loss=True,
    through_samples=False,
    visit=Ordinary,
):
    """Evaluation: the logits of real and fake, for the loss, and the penalties' values.

    One pass of the critic gives both logits where it does not couple samples; R1 and R2 together add one gradient of
    that pass, and either alone one of its own half. Equal to the separate calls, up to what a pass changes in the
    critic itself (a power iteration of spectral norm, running statistics): there are fewer of them.

    penalties: of this package, or any function penalty(critic, real=, fake=) -> scalar.
    states: a list with a state for each penalty, from `initial_states`; updated in place.
    step: count lazily: penalties whose `every` does not divide it are None, the others `every` times their value.
    generator: a torch.Generator for the random draws; else torch's global one. loss: whether the logits are wanted.
    through_samples: the values keep the graph of real and fake, which are constants to penalties else: unrolling
        differentiates through them.
    """
    due = tuple(p for p in penalties if step is None or step % getattr(p, "every", 1) == 0)
    prepared = prepare(due, critic, real, fake, generator=generator, through_samples=through_samples)
    if states is not None:
        states = [
            s for p, s in zip(penalties, states, strict=True) if step is None or step % getattr(p, "every", 1) == 0
        ]
    found = evaluate_prepared(due, critic, prepared, states=states, loss=loss, visit=visit)
    if step is None:
        return found
    counted = iter(found.terms)
    terms = []
    for penalty in penalties:
        every = getattr(penalty, "every", 1)
        if step % every:
            terms.append(None)
        else:
            value, diagnostics = next(counted)
            terms.append((value * every, diagnostics))
    return found._replace(terms=terms)


def initial_states(penalties):
    """A state for each penalty: what those with a memory remember, {} for the others."""
    return [p.initial_state() if _is_term(p) else {} for p in penalties]


def prepare(penalties, critic, real, fake, *, generator=None, through_samples=False):
    """Prepared, after the checks. Errors: ValueError, TypeError of the penalties."""
    for penalty in penalties:
        if not callable(penalty):
            hint = ": it is a constraint, call its apply_(module)" if hasattr(penalty, "apply_") else ""
            raise TypeError(f"penalties must be callables penalty(critic, real=, fake=), got {penalty!r}{hint}")
    ours = [p for p in penalties if _is_term(p)]
    if ours and real.shape != fake.shape:
        raise ValueError(f"real {tuple(real.shape)} and fake {tuple(fake.shape)} must have the same shape")
    for penalty in ours:
        penalty.check(critic)
    samples = (real, fake) if through_samples else (real.detach(), fake.detach())
    with torch.set_grad_enabled(through_samples):
        drawn = tuple(p.draw(*samples, generator) if _is_term(p) else None for p in penalties)
        wanted = _wanted(penalties, "gradients")
        if len(wanted) == 2 and not _coupled(critic):
            leaves = (torch.cat(samples),)
        else:
            leaves = tuple(dict(zip(("real", "fake"), samples, strict=True))[name] for name in wanted)
        leaves = tuple(leaf if leaf.requires_grad else leaf.detach().requires_grad_() for leaf in leaves)
        return Prepared(real, fake, leaves, drawn)


def evaluate_prepared(penalties, critic, prepared, *, states=None, loss=True, visit=Ordinary):
    """Evaluation of what `prepare` returned, with the same penalties: a function without randomness."""
    states = states or [None] * len(penalties)
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad() if penalties else torch.set_grad_enabled(differentiable):
        asked = _ask(penalties, critic, prepared, loss, visit)
        terms = [
            penalty.terms(asked, drawn, state)
            if _is_term(penalty)
            else (penalty(critic, real=prepared.real, fake=prepared.fake), {})
            for penalty, drawn, state in zip(penalties, prepared.drawn, states, strict=True)
        ]
    logits = [asked.logits.get(name) for name in ("real", "fake")]
    if not differentiable:  # only the gradients inside needed a graph
        terms = [(value.detach(), diagnostics) for value, diagnostics in terms]
        logits = [t if t is None else t.detach() for t in logits]
    return Evaluation(*logits, terms)


def _ask(penalties, critic, prepared, loss, visit):
    differentiated = _wanted(penalties, "gradients")
    needed = ("real", "fake") if loss else _wanted(penalties, "logits")
    coupled = _coupled(critic)
    if len(differentiated) == 2 and not coupled:
        (both,) = prepared.leaves
        sizes = [len(prepared.real), len(prepared.fake)]
        logits, gradients = (t.split(sizes) for t in visit.logits_and_gradient(critic, both))
        return Asked(critic, _named(logits), _named(gradients), coupled, visit)
    logits, gradients = {}, {}
    if not differentiated and len(needed) == 2 and not coupled and prepared.real.shape[1:] == prepared.fake.shape[1:]:
        both = torch.cat([prepared.real, prepared.fake])
        logits = _named(visit.logits(critic, both).split([len(prepared.real), len(prepared.fake)]))
    for name in ("real", "fake"):  # in this order, for what a pass changes in the critic
        if name in differentiated:
            leaf = prepared.leaves[differentiated.index(name)]
            logits[name], gradients[name] = visit.logits_and_gradient(critic, leaf)
        elif name in needed and name not in logits:
            logits[name] = visit.logits(critic, getattr(prepared, name))
    return Asked(critic, logits, gradients, coupled, visit)


def _named(two):
    return dict(zip(("real", "fake"), two, strict=True))


def _is_term(penalty):
    """Whether it is a term of this package, which says beforehand what it needs, and not a plain function."""
    return hasattr(penalty, "terms")


def _wanted(penalties, what):
    """The batches that a penalty wants logits of, or gradients at, each once."""
    return [name for name in ("real", "fake") if any(name in getattr(p, what, ()) for p in penalties)]


def _coupled(critic):
    network = module_of(critic)
    return network is not None and couples_samples(network)
