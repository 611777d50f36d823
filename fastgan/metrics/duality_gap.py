"""The duality gap: how much either player could still gain alone (Grnarova et al., 2019), and its perturbed form."""

import copy
from typing import NamedTuple

import torch

from fastgan import randomness
from fastgan.metrics.evaluated import evaluated


class DualityGap(NamedTuple):
    """gap = best_critic - best_generator >= 0 up to noise; 0 at an equilibrium."""

    gap: float
    best_critic: float  # max over D' of M(G, D')
    best_generator: float  # min over G' of M(G', D)


def log_payoff(real_logits, fake_logits, floor=1e-4):
    """M = E log(D(x) + floor) + E log(1 - D(G(z)) + floor), D a probability: the minimax game's value, <= 0."""
    real, fake = torch.sigmoid(real_logits.double()), torch.sigmoid(-fake_logits.double())
    return (real + floor).log().mean() + (fake + floor).log().mean()


def duality_gap(
    generator,
    discriminator,
    loss,
    real,
    *,
    steps=250,
    batch_size=64,
    lr=5e-4,
    betas=(0.5, 0.999),
    perturbed=False,
    payoff=log_payoff,
    evaluation_batches=100,
    evaluation_batch_size=128,
    penalties=(),
    seed=0,
):
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
    def __init__(self, real, z_dim, device):
        self.real_samples, self.z_dim, self.device, self.source = real, z_dim, device, None

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
