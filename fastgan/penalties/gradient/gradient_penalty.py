"""What the penalties on the norm of the critic's gradient have in common."""

from dataclasses import dataclass, field

import torch

from fastgan.nn.couples_samples import coupling_layer
from fastgan.ops import grad_norm_penalty
from fastgan.penalties.critic import module_of
from fastgan.penalties.terms import Penalty


@dataclass(frozen=True)
class GradientPenalty(Penalty):
    """factor * mean_i f(n_i), n_i the norm of sample i's gradient over all its elements (ops.grad_norm_penalty).

    The penalty trains the critic alone: real and fake are constants for it, whether they require grad or not. It is
    computed in float32 at the least, without autocast, and works under GradScaler as it is: scale the total.
    Diagnostics: "gradient_norm", "gradient_norm_max", the mean and the largest n_i.
    Derivatives: the first with respect to the critic's parameters; none where they are frozen.
    Errors: ValueError for a critic that couples samples (its gradient is not one of a sample), for shapes that do not
    fit, for a critic that does not depend on its input.
    """

    allow_coupled: bool = field(default=False, kw_only=True)
    """Take the gradient of a critic that couples samples nevertheless: n_i then holds sample i's effect on all."""

    def check(self, critic):
        network = module_of(critic)
        found = None if network is None or self.allow_coupled else coupling_layer(network)
        if found is not None:
            name, layer = found
            raise ValueError(
                f"{type(self).__name__} is a penalty per sample, but the critic's {type(layer).__name__}"
                f" {name or '(the critic itself)'!r} couples the samples of a batch: use a norm over each sample"
                " (GroupNorm, InstanceNorm2d), spectral norm or none, or pass allow_coupled=True"
            )

    def terms(self, asked, drawn, state):
        if drawn is None:
            gradient = self._gradient_of(asked)
        else:
            _, gradient = asked.visit.logits_and_gradient(asked.critic, drawn)
        factor, setting = self.arithmetic()
        with torch.autocast(gradient.device.type, enabled=False):
            value, norms = grad_norm_penalty(gradient, **setting, return_norms=True)
        norms = norms.detach()
        return factor * value, {"gradient_norm": norms.mean(), "gradient_norm_max": norms.max()}

    def _gradient_of(self, asked):
        (at,) = self.gradients
        return asked.gradients[at]

    def arithmetic(self):
        """(factor, arguments of grad_norm_penalty)"""
        raise NotImplementedError


def per_sample(random, x, generator):
    """One number for each sample, broadcast against x (B, ...), drawn in float32 at the least."""
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    shape = (len(x), *[1] * (x.dim() - 1))
    return random(shape, generator=generator, device=x.device, dtype=dtype).to(x.dtype)
