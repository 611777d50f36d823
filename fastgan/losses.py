"""Adversarial losses: pure functions of logits, in a form that is stable at any size of them.

Notation: D(x) and D(G(z)) are logits (no sigmoid), sp(t) = log(1 + e^t) is softplus, E the mean over all elements.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import relu, softplus


class AdversarialLoss(NamedTuple):
    """What the two players minimise.

    discriminator(real_logits, fake_logits) and generator(fake_logits, real_logits=None) take floating-point tensors of
    any shape and return a scalar; half-precision logits are taken to float32. Differentiable any number of times.
    `generator_needs_real`: the generator's loss compares with D(x); without real_logits it raises ValueError.
    """

    name: str
    discriminator: Callable
    generator: Callable
    generator_needs_real: bool = False


def get(name):
    """The AdversarialLoss of this name; `names()` lists them."""
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {name!r}")
    return LOSSES[name]


def names():
    return tuple(LOSSES)


LOSSES = {}


def _unpaired(name, on_real, on_fake, for_generator):
    """A loss that judges each logit by itself: E on_real(D(x)) + E on_fake(D(G(z))), against for_generator."""

    def discriminator(real_logits, fake_logits):
        real, fake = _logits(real_logits, "real_logits"), _logits(fake_logits, "fake_logits")
        return on_real(real).mean() + on_fake(fake).mean()

    def generator(fake_logits, real_logits=None):
        return for_generator(_logits(fake_logits, "fake_logits")).mean()

    LOSSES[name] = AdversarialLoss(name, discriminator, generator)


def _logits(value, argument):
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        got = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{argument} must be a floating-point tensor, got {got}")
    if value.numel() == 0:
        raise ValueError(f"{argument} must not be empty, got shape {tuple(value.shape)}")
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


# Goodfellow et al., 2014. log D = -sp(-logit), log(1 - D) = -sp(logit).
# The generator's minimax loss saturates: its gradient vanishes where the critic is sure.
_unpaired("minimax", lambda d: softplus(-d), softplus, lambda d: -softplus(d))
_unpaired("non_saturating", lambda d: softplus(-d), softplus, lambda d: softplus(-d))

# Arjovsky et al., 2017. Means something only for a Lipschitz critic (spectral norm, a gradient penalty, clipping).
_unpaired("wasserstein", torch.neg, lambda d: d, torch.neg)

# Mao et al., 2017: 1/2 (D(x) - b)^2 + 1/2 (D(G(z)) - a)^2 against 1/2 (D(G(z)) - c)^2 with (a, b, c) = (0, 1, 1).
_unpaired("least_squares", lambda d: (d - 1).square() / 2, lambda d: d.square() / 2, lambda d: (d - 1).square() / 2)

# Lim & Ye, 2017; Miyato et al., 2018.
_unpaired("hinge", lambda d: relu(1 - d), lambda d: relu(1 + d), torch.neg)
