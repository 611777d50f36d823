"""What the penalties on the norm of the critic's gradient have in common."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from fastgan import randomness
from fastgan.nn.couples_samples import Coupling
from fastgan.ops import grad_norm_penalty
from fastgan.penalties.evaluate import Judged
from fastgan.penalties.gradient.input_gradient import without_autocast
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.terms import CriticFunction, Measured, State


@dataclass(frozen=True)
class GradientPenalty(Penalty):
    """factor * mean_i f(n_i), n_i the norm of sample i's gradient over all its elements (ops.grad_norm_penalty).

    The penalty trains the critic only: real and fake are constants, whether they require grad or not. It is computed
    in at least float32, without autocast. Under GradScaler, scale the total.
    Diagnostics: "gradient_norm", "gradient_norm_max", the mean and the largest n_i.
    Derivatives: the first with respect to the critic's parameters; none where they are frozen.
    Errors: ValueError for a critic that couples samples, also behind a function (its gradient is not one of a sample),
    for shapes that do not fit, for other than one row of logits a sample, for a critic that does not depend on its
    input.
    """

    allow_coupled: bool = field(default=False, kw_only=True)
    """Accept a critic that couples samples or joins several to one logit. Then n_i is the norm of row i: the effect of
    sample i on all logits."""

    def check(self, critic: CriticFunction, real: torch.Tensor, fake: torch.Tensor, coupling: Coupling) -> None:
        super().check(critic, real, fake, coupling)
        if self.allow_coupled or coupling.by is None:
            return
        raise ValueError(
            f"{self.name} is a penalty per sample, but was given a critic {coupling.by}. Use a norm over each sample"
            " (GroupNorm, InstanceNorm2d), spectral norm or none. For a critic that joins samples: give the penalty"
            " packs and a critic of packs (fastgan.nn.pack.pack). For a critic with labels or several outputs:"
            " fastgan.penalties.Critic(discriminator, labels, output=...). Or pass allow_coupled=True to mean it"
        )

    def terms(self, judged: Judged, drawn: torch.Tensor | None, state: State | None) -> Measured:
        if drawn is None:
            (at,) = self.gradients
            gradient = judged.gradients[at]
        else:
            _, gradient = judged.visit.logits_and_gradient(judged.critic, drawn, self.allow_coupled)
        factor, setting = self.arithmetic()
        with without_autocast(gradient):
            value, norms = grad_norm_penalty(gradient, **setting, return_norms=True)
        norms = norms.detach()
        return factor * value, {"gradient_norm": norms.mean(), "gradient_norm_max": norms.max()}

    def arithmetic(self) -> tuple[float, dict[str, Any]]:
        """(factor, arguments of grad_norm_penalty)"""
        raise NotImplementedError


def per_sample(random: Callable[..., torch.Tensor], x: torch.Tensor, rng: torch.Generator | None) -> torch.Tensor:
    """One number for each sample, broadcast against x (B, ...), drawn in float32 at the least."""
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    shape = (len(x), *[1] * (x.dim() - 1))
    return randomness.of_batch(random, shape, generator=rng, device=x.device, dtype=dtype).to(x.dtype)
