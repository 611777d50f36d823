"""The duality gap: how much either player could still gain alone (Grnarova et al., 2019), and its perturbed form."""

import copy
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from fastgan import randomness
from fastgan.losses import AdversarialLoss
from fastgan.metrics.evaluated import evaluated


class DualityGap(NamedTuple):
    """gap = best_critic - best_generator >= 0 up to noise; 0 at an equilibrium."""

    gap: float
    best_critic: float  # max over D' of M(G, D')
    best_generator: float  # min over G' of M(G', D)


def log_payoff(real_logits: torch.Tensor, fake_logits: torch.Tensor, floor: float = 1e-4) -> torch.Tensor:
    """M = E log(D(x) + floor) + E log(1 - D(G(z)) + floor), D a probability: the minimax game's value, <= 0."""
    real, fake = torch.sigmoid(real_logits.double()), torch.sigmoid(-fake_logits.double())
    return (real + floor).log().mean() + (fake + floor).log().mean()


def duality_gap(
    generator: nn.Module,
    discriminator: nn.Module,
    loss: AdversarialLoss,
    real: Callable[[int, torch.Generator], torch.Tensor],
    *,
    steps: int = 250,
    batch_size: int = 64,
    lr: float = 5e-4,
    betas: tuple[float, float] = (0.5, 0.999),
    perturbed: bool = False,
    payoff: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = log_payoff,
    evaluation_batches: int = 100,
    evaluation_batch_size: int = 128,
    penalties: Iterable[Callable[..., torch.Tensor]] = (),
    seed: int = 0,
) -> DualityGap:
    """max_D' M(G, D') - min_G' M(G', D), each by `steps` of Adam from a copy; the networks stay as they are.

    generator: z (B, generator.z_dim) -> samples; discriminator: samples -> logits; networks without conditions.
    loss: an AdversarialLoss, what the copies descend. real: (count, torch.Generator) -> samples (count, ...), on the
    networks' device. penalties: penalty(critic, real=, fake=), added to the critic's loss.
    perturbed: before its training, N(0, var(w)) is added to each of a copy's parameter tensors w. The plain gap is
    small at any stationary point, a collapsed one too; the perturbed gap is small only if the player finds its way
    back. Noise as large as the weights is little if the weights are small, as after DCGAN's N(0, 0.02^2): a collapsed
    generator may then stay collapsed, and its gap is small (docs/papers.md, T7).
    payoff: (real logits, fake logits) -> M, which the critic maximises, over evaluation_batches batches of fresh
    samples, in evaluation mode; the copies are trained in the mode of the networks. Defaults: the perturbed
    gap's published 2D experiments. Costs 2 x steps updates. A function of its arguments and `seed`.
    Errors: ValueError.
    """
    if steps < 1 or batch_size < 1 or evaluation_batches < 1 or evaluation_batch_size < 1:
        raise ValueError("steps, batch_size, evaluation_batches and evaluation_batch_size must be at least 1")
    device = next(discriminator.parameters()).device
    draw = _Sampler(real, generator.z_dim, device)
    with randomness.global_seed(seed, "duality gap", device):
        values = []
        for player in ("critic", "generator"):
            g, d = copy.deepcopy(generator), copy.deepcopy(discriminator)
            moving, still = (d, g) if player == "critic" else (g, d)
            moving.requires_grad_(True), still.requires_grad_(False)
            if perturbed:
                _perturb(moving, randomness.generator(seed, f"perturbed {player}"))
            optimizer = torch.optim.Adam(moving.parameters(), lr, betas)
            draw.source = randomness.generator(seed, f"training of the {player}", device=device)
            for _ in range(steps):
                optimizer.zero_grad(set_to_none=True)
                if player == "critic":
                    _critic_loss(loss, penalties, g, d, draw, batch_size).backward()
                else:
                    _generator_loss(loss, g, d, draw, batch_size).backward()
                optimizer.step()
            draw.source = randomness.generator(seed, "evaluation", device=device)  # the same samples for both
            values.append(_value(payoff, g, d, draw, evaluation_batches, evaluation_batch_size))
    return DualityGap(values[0] - values[1], *values)


class _Sampler:
    def __init__(self, real: Callable[[int, torch.Generator], torch.Tensor], z_dim: Any, device: torch.device) -> None:
        self.real_samples, self.z_dim, self.device = real, z_dim, device
        self.source: Any = None  # a torch.Generator

    def real(self, count):
        return self.real_samples(count, self.source)

    def latents(self, count):
        return torch.randn(count, self.z_dim, generator=self.source, device=self.device)


def _critic_loss(loss, penalties, g, d, draw, count):
    real = draw.real(count)
    with torch.no_grad():
        fake = g(draw.latents(count))
    return loss.discriminator(d(real), d(fake)) + sum(penalty(d, real=real, fake=fake) for penalty in penalties)


def _generator_loss(loss, g, d, draw, count):
    real_logits = d(draw.real(count)) if loss.generator_needs_real else None
    return loss.generator(d(g(draw.latents(count))), real_logits)


@torch.no_grad()
def _value(payoff, g, d, draw, batches, count):
    with evaluated(g, d):
        return sum(payoff(d(draw.real(count)), d(g(draw.latents(count)))).item() for _ in range(batches)) / batches


@torch.no_grad()
def _perturb(network, source):
    for p in network.parameters():
        if p.numel() > 1:
            p += torch.randn(p.shape, generator=source).to(p) * p.std()
