"""Adversarial losses: pure functions of logits, numerically stable for logits of any size.

Notation: D(x) and D(G(z)) are logits (no sigmoid), sp(t) = log(1 + e^t) is softplus, E the mean over all elements.
A constant added to D changes neither the relativistic losses nor the Wasserstein discriminator's loss.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn.functional import relu, softplus

from fastgan import processes

__all__ = ["LOSSES", "AdversarialLoss", "get", "names"]


class AdversarialLoss(NamedTuple):
    """The losses that the discriminator and the generator minimise.

    discriminator(real_logits, fake_logits) and generator(fake_logits, real_logits=None) take floating-point tensors of
    any shape and return a scalar. Half-precision logits are converted to float32. Differentiable any number of times.
    Errors: TypeError for other dtypes, ValueError for empty logits.
    `generator_needs_real`: the generator's loss compares with D(x). It raises ValueError without real_logits.
    `pairs_samples`: a logit is compared with the logit at the same index of the other batch. Unequal shapes raise
        ValueError.
    `couples_batch`: a logit is compared with a mean over the other batch, that of all processes of torch.distributed.
        The loss of a batch is then not the mean of the losses of its parts.
    """

    name: str
    discriminator: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    generator: Callable[..., torch.Tensor]
    generator_needs_real: bool = False
    pairs_samples: bool = False
    couples_batch: bool = False


def get(name: str) -> AdversarialLoss:
    """The AdversarialLoss of this name. `names()` lists the names. ValueError for an unknown name."""
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {name!r}")
    return LOSSES[name]


def names() -> tuple[str, ...]:
    """The names that `get` takes."""
    return tuple(LOSSES)


LOSSES: dict[str, AdversarialLoss] = {}
Term = Callable[[torch.Tensor], torch.Tensor]  # of the logits, element by element


def _unpaired(name: str, on_real: Term, on_fake: Term, for_generator: Term) -> None:
    """A loss of each logit alone: E on_real(D(x)) + E on_fake(D(G(z))); the generator's is E for_generator(D(G(z)))."""

    def discriminator(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
        real, fake = _logits(real_logits, "real_logits"), _logits(fake_logits, "fake_logits")
        return on_real(real).mean() + on_fake(fake).mean()

    def generator(fake_logits: torch.Tensor, real_logits: torch.Tensor | None = None) -> torch.Tensor:
        return for_generator(_logits(fake_logits, "fake_logits")).mean()

    LOSSES[name] = AdversarialLoss(name, discriminator, generator)


def _paired(name: str, of_difference: Term) -> None:
    """E f(D(x) - D(G(z))), the i-th real sample with the i-th fake sample; the generator's is E f(D(G(z)) - D(x))."""

    def discriminator(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
        real, fake = _logits(real_logits, "real_logits"), _logits(fake_logits, "fake_logits")
        if real.shape != fake.shape:
            raise ValueError(
                f"{name} pairs samples: real_logits and fake_logits must have one shape, "
                f"got {tuple(real.shape)} and {tuple(fake.shape)}"
            )
        return of_difference(real - fake).mean()

    def generator(fake_logits: torch.Tensor, real_logits: torch.Tensor | None = None) -> torch.Tensor:
        return discriminator(fake_logits, _needed(real_logits, name))

    LOSSES[name] = AdversarialLoss(name, discriminator, generator, generator_needs_real=True, pairs_samples=True)


def _averaged(name: str, on_better: Term, on_worse: Term) -> None:
    """(E f(D(x) - E D(G(z))) + E g(D(G(z)) - E D(x))) / 2. The generator's loss exchanges real and fake."""

    def discriminator(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
        better, worse = _logits(real_logits, "real_logits"), _logits(fake_logits, "fake_logits")
        of_better, of_worse = processes.mean(better.mean()), processes.mean(worse.mean())
        return (on_better(better - of_worse).mean() + on_worse(worse - of_better).mean()) / 2

    def generator(fake_logits: torch.Tensor, real_logits: torch.Tensor | None = None) -> torch.Tensor:
        return discriminator(fake_logits, _needed(real_logits, name))

    LOSSES[name] = AdversarialLoss(name, discriminator, generator, generator_needs_real=True, couples_batch=True)


def _needed(real_logits: torch.Tensor | None, name: str) -> torch.Tensor:
    if real_logits is None:
        raise ValueError(f"real_logits must be given: the generator's {name} loss compares with real samples")
    return real_logits


def _logits(value: torch.Tensor, argument: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        got = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{argument} must be a floating-point tensor, got {got}")
    if value.numel() == 0:
        raise ValueError(f"{argument} must not be empty, got shape {tuple(value.shape)}")
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


# Goodfellow et al., 2014. log D = -sp(-logit), log(1 - D) = -sp(logit).
# The generator's minimax loss saturates: its gradient vanishes when the discriminator is sure.
_unpaired("minimax", lambda d: softplus(-d), softplus, lambda d: -softplus(d))
_unpaired("non_saturating", lambda d: softplus(-d), softplus, lambda d: softplus(-d))

# Arjovsky et al., 2017. The discriminator must be Lipschitz (spectral norm, a gradient penalty or clipping).
_unpaired("wasserstein", torch.neg, lambda d: d, torch.neg)

# Mao et al., 2017: 1/2 (D(x) - b)^2 + 1/2 (D(G(z)) - a)^2 against 1/2 (D(G(z)) - c)^2 with (a, b, c) = (0, 1, 1).
_unpaired("least_squares", lambda d: (d - 1).square() / 2, lambda d: d.square() / 2, lambda d: (d - 1).square() / 2)

# The same paper's other choice, (a, b, c) = (-1, 1, 0): b - c = 1 and b - a = 2 give Pearson's chi-squared.
_unpaired(
    "least_squares_pearson", lambda d: (d - 1).square() / 2, lambda d: (d + 1).square() / 2, lambda d: d.square() / 2
)

# Lim & Ye, 2017; Miyato et al., 2018.
_unpaired("hinge", lambda d: relu(1 - d), lambda d: relu(1 + d), torch.neg)

# Jolicoeur-Martineau, 2018: RSGAN, section 4.1. RpGAN is the paired form with any f. R3GAN (Huang et al., 2024) uses
# RpGAN with the same f, t -> sp(-t): both names below are the same function.
_paired("relativistic", lambda d: softplus(-d))
_paired("relativistic_paired", lambda d: softplus(-d))

# RaSGAN, RaLSGAN, RaHinge: the same paper, section 4.2, with the 1/2 of its published code.
_averaged("relativistic_average", lambda d: softplus(-d), softplus)
_averaged("relativistic_average_least_squares", lambda d: (d - 1).square(), lambda d: (d + 1).square())
_averaged("relativistic_average_hinge", lambda d: relu(1 - d), lambda d: relu(1 + d))
