"""What the penalties on the norm of the critic's gradient have in common."""

import warnings
from dataclasses import dataclass, field

import torch

from fastgan import randomness
from fastgan.ops import grad_norm_penalty
from fastgan.penalties.critic import module_of
from fastgan.penalties.gradient.input_gradient import without_autocast
from fastgan.penalties.penalty import Penalty


@dataclass(frozen=True)
class GradientPenalty(Penalty):
    """factor * mean_i f(n_i), n_i the norm of sample i's gradient over all its elements (ops.grad_norm_penalty).

    The penalty trains the critic alone: real and fake are constants for it, whether they require grad or not. It is
    computed in float32 at the least, without autocast, and works under GradScaler as it is: scale the total.
    Diagnostics: "gradient_norm", "gradient_norm_max", the mean and the largest n_i.
    Derivatives: the first with respect to the critic's parameters; none where they are frozen.
    Errors: ValueError for a critic that couples samples (its gradient is not one of a sample; a warning for a function
    that hides its module), for shapes that do not
    fit, for other than one row of logits a sample, for a critic that does not depend on its input.
    """

    allow_coupled: bool = field(default=False, kw_only=True)
    """Take the gradient of a critic that couples samples, or joins several to one logit, nevertheless: n_i then is the
    norm of row i, sample i's effect on all logits."""

    def check(self, critic, real, fake, coupling):
        super().check(critic, real, fake, coupling)
        if self.allow_coupled or coupling.by is None:
            return
        found = (
            f"{self.name} is a penalty per sample, but was given a critic {coupling.by}. Use a norm over each sample"
            " (GroupNorm, InstanceNorm2d), spectral norm or none. For a critic that joins samples: give the penalty"
            " packs and a critic of packs (fastgan.nn.pack.pack)."
        )
        if module_of(critic) is not None:
            raise ValueError(f"{found} Or pass allow_coupled=True to mean it")
        # A function may hide a module on purpose: real and fake are judged apart, as two calls of autograd would.
        warnings.warn(
            f"{found} Pass fastgan.penalties.Critic(discriminator, labels, output=...) in place of a function, or"
            " allow_coupled=True to mean it",
            stacklevel=2,
        )

    def terms(self, judged, drawn, state):
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

    def arithmetic(self):
        """(factor, arguments of grad_norm_penalty)"""
        raise NotImplementedError


def per_sample(random, x, rng):
    """One number for each sample, broadcast against x (B, ...), drawn in float32 at the least."""
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    shape = (len(x), *[1] * (x.dim() - 1))
    return randomness.of_batch(random, shape, generator=rng, device=x.device, dtype=dtype).to(x.dtype)
