"""The gradients of a critic's loss and penalties by the cheapest exact route."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch

from fastgan import losses
from fastgan.penalties.critic import checked_logits, module_of
from fastgan.penalties.evaluate import evaluate
from fastgan.penalties.four_passes.graph import NotEligible, least_work_on
from fastgan.penalties.four_passes.maps import rows
from fastgan.penalties.four_passes.visit import LossVisit, Visit
from fastgan.penalties.gradient.input_gradient import input_gradient
from fastgan.penalties.terms import Term

FOUR_PASSES, GENERAL = "four passes", "general"

# The general route is right for every critic, so that its reason may be remembered: a critic that took it pays nothing
# for the look at its graph in most steps. A network -> {batch: (reason, batches until the next look)}.
REFUSED: WeakKeyDictionary = WeakKeyDictionary()
LOOK_AGAIN = 100


@dataclass(frozen=True)
class Gradients:
    """What `backward` found. All tensors are detached.

    value: the loss and all penalties, 0-d. loss: the loss alone. real_logits, fake_logits: the critic's.
    terms: (value, diagnostics) for each penalty in their order; None for one that is not due.
    route: "four passes" or "general". reason: a sentence that says why.
    fake_gradient: d logit_i / d fake_i (B, ...), or None when no pass gave it.
    """

    value: torch.Tensor
    loss: torch.Tensor
    real_logits: torch.Tensor
    fake_logits: torch.Tensor
    terms: list
    route: str
    reason: str
    fake_gradient: torch.Tensor | None
    adversarial: losses.AdversarialLoss

    def generator_cotangent(
        self, loss: losses.AdversarialLoss | str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(generator's loss, d loss / d fake): l'_G,i g_i, without a pass of the critic. Then fake.backward(cotangent).

        For simultaneous updates: the critic is the one before its step. The gradient is that of the adversarial loss
        alone. loss: an AdversarialLoss or its name; None for that of the critic.
        Errors: ValueError when fake_gradient is None.
        """
        if self.fake_gradient is None:
            raise ValueError(
                "fake_gradient is None: no pass gave the critic's gradient at the fakes. It is there when R2 is due, or"
                f" with keep_fake_gradient=True, on the four-pass route; here: {self.reason}"
            )
        adversarial = self.adversarial if loss is None else _loss(loss)
        with torch.enable_grad():
            free = self.fake_logits.clone().requires_grad_()
            value = adversarial.generator(free, self.real_logits)
            (of_logits,) = torch.autograd.grad(value, free)
        return value.detach(), self.fake_gradient * rows(of_logits.reshape(-1), self.fake_gradient)


def backward(
    critic: Callable[[torch.Tensor], torch.Tensor],
    loss: losses.AdversarialLoss | str,
    penalties: Iterable[Callable] = (),
    *,
    real: torch.Tensor,
    fake: torch.Tensor,
    states: list[dict] | None = None,
    step: int | None = None,
    rng: torch.Generator | None = None,
    share: float = 1.0,
    scaler: torch.amp.GradScaler | None = None,
    keep_fake_gradient: bool = False,
    route: Literal["four passes", "general"] | None = None,
) -> Gradients:
    """Add the gradients of share * (loss + penalties) to the critic's parameters, as .backward() does. -> Gradients.

    The numbers are those of `evaluate`, then .backward() of the sum: the same draws, the same forwards of the critic in
    the same order, the same gradients to rounding. For a critic that is piecewise linear in its input and gives one
    logit a sample, a batch with a gradient penalty takes four passes of the critic: forward, data gradient, tangent,
    weight gradient. Autograd takes six. The autograd graph of each forward shows whether the critic is of this kind.
    Any other critic takes the general route, autograd's, on the same forward.

    Args:
        critic: critic(x) -> logits, a module or a callable that has one as `.discriminator`.
        loss: an AdversarialLoss, or the name of one.
        penalties: of this package, or any function penalty(critic, real=, fake=) -> scalar.
        real, fake: (B, ...), constants: no gradient flows into them.
        states, step: as `evaluate` takes them. rng: a torch.Generator for the random draws; None for the global one.
        share: a factor of all gradients, for a batch that comes in parts.
        scaler: a torch.amp.GradScaler, whose scale multiplies all gradients.
        keep_fake_gradient: keep the critic's gradient at the fakes for `Gradients.generator_cotangent` without R2 as
            well. The data gradient of the loss then reaches the samples. No further pass runs.
        route: None for the cheaper one: four passes, if the critic allows them and is not so small that autograd takes
            less time on a CPU. "four passes": whenever the critic allows them. "general": autograd's.

    The values that are returned have neither share nor scale in them. Gradient penalties are computed outside of
    autocast. A hook on an activation that changes the gradient of a logit makes the route general.
    Errors: ValueError, TypeError of the loss and the penalties.
    """
    adversarial = _loss(loss)
    penalties = tuple(penalties)
    if route not in (None, FOUR_PASSES, GENERAL):
        raise ValueError(f'route must be None, "{FOUR_PASSES}" or "{GENERAL}"; got {route!r}')
    against = "the general route was chosen" if route == GENERAL else _unknown(penalties)
    recorder = Recorder(against, keep_fake_gradient, smallest=route == FOUR_PASSES or keep_fake_gradient)
    with torch.enable_grad():
        found = evaluate(
            penalties,
            critic,
            real.detach(),
            fake.detach(),
            states=states,
            step=step,
            rng=rng,
            visit=recorder,
        )
        value = adversarial.discriminator(found.real_logits, found.fake_logits)
        total = sum((term[0] for term in found.terms if term is not None), value)
        recorder.backward(total, _factor(total, share, scaler))
    terms = [None if term is None else (term[0].detach(), term[1]) for term in found.terms]
    taken, reason = recorder.verdict()
    logits = found.real_logits.detach(), found.fake_logits.detach()
    gradient = recorder.gradient_of(found.fake_logits)
    return Gradients(total.detach(), value.detach(), *logits, terms, taken, reason, gradient, adversarial)


class Recorder:
    """The `visit` of an evaluation: forwards of the critic, by four passes where the graph allows it.

    against: why it may not, or None. smallest: whether critics that are too small to gain from it take it, too.
    """

    def __init__(self, against: str | None, keep_fake_gradient: bool, smallest: bool):
        self.against, self.keep, self.smallest = against, keep_fake_gradient, smallest
        self.visits: list[Visit | LossVisit] = []
        self.reasons: list[str] = []
        self.gradient_passes = 0

    def logits(self, critic: Callable, x: torch.Tensor) -> torch.Tensor:
        if self.against or not (self.keep or self.visits):
            return checked_logits(critic(x))
        x = x.detach().requires_grad_()
        logits = checked_logits(critic(x))
        visit = self._visit(critic, logits, x, partial(Visit, second_order=False) if self.keep else LossVisit)
        return logits if visit is None else visit.logits

    def logits_and_gradient(
        self, critic: Callable, x: torch.Tensor, allow_coupled: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = checked_logits(critic(x))
        self.gradient_passes += 1
        least_work = 0 if self.smallest else least_work_on(x.device)
        visit = self._visit(critic, logits, x, partial(Visit, second_order=True, least_work=least_work))
        return (logits, input_gradient(logits, x, allow_coupled)) if visit is None else (visit.logits, visit.gradient)

    def _visit(self, critic: Callable, logits: torch.Tensor, x: torch.Tensor, kind: Callable) -> Any:
        network = module_of(critic)
        refusals = {} if network is None else REFUSED.setdefault(network, {})
        batch = x.shape, x.dtype, self.smallest, network is not None and network.training
        why, left = refusals.get(batch, (None, 0))
        try:
            if self.against or left:
                raise NotEligible(self.against or why)
            visit = kind(logits, x)
        except NotEligible as why:
            self.reasons.append(str(why))
            if not self.against:
                refusals[batch] = str(why), left - 1 if left else LOOK_AGAIN
            return None
        self.visits.append(visit)
        return visit

    def backward(self, total: torch.Tensor, factor: torch.Tensor) -> None:
        """All gradients in one call, so that each parameter's arrive together (DistributedDataParallel counts them)."""
        outputs, gradients = [total], [factor]
        leaves = [leaf for visit in self.visits for leaf in visit.leaves()]
        if leaves:
            found = iter(torch.autograd.grad(total, leaves, factor, retain_graph=True, allow_unused=True))
            of_each = [(visit, [next(found) for _ in visit.leaves()]) for visit in self.visits]
            for visit, of_leaves in sorted(of_each, key=lambda one: len(one[1])):  # of the loss alone first: it frees
                for edge, gradient in visit.finish(*of_leaves):
                    outputs.append(edge)
                    gradients.append(gradient)
            self.reasons += [visit.refused for visit in self.visits if visit.refused is not None]
        torch.autograd.backward(outputs, gradients)

    def verdict(self) -> tuple[str, str]:
        if self.reasons:
            return GENERAL, f"{self.reasons[0][0].upper()}{self.reasons[0][1:]}."
        if self.gradient_passes:
            return FOUR_PASSES, "The critic is piecewise linear in its input and gives one logit a sample."
        return GENERAL, "No gradient penalty is due: the loss alone takes three passes."

    def gradient_of(self, logits: torch.Tensor) -> torch.Tensor | None:
        """The rows of the input gradient that belong to these logits, the last ones of a visit, or None."""
        for visit in self.visits:
            if logits is visit.logits or logits._base is visit.logits:
                gradient = visit.input_gradient
                return None if gradient is None else gradient[-len(logits) :]
        return None


def _loss(loss: losses.AdversarialLoss | str) -> losses.AdversarialLoss:
    return losses.get(loss) if isinstance(loss, str) else loss


def _unknown(penalties: tuple) -> str | None:
    for penalty in penalties:
        if isinstance(penalty, Term) and not type(penalty).__module__.startswith("fastgan."):
            return f"{type(penalty).__name__} is not a term of fastgan, and may use the graph of the logits"
    return None


def _factor(total: torch.Tensor, share: float, scaler: torch.amp.GradScaler | None) -> torch.Tensor:
    factor = torch.full_like(total, share)
    return factor if scaler is None else scaler.scale(factor)
