"""What can be known of a run before it begins: its networks, data and recipe are called once, on copies."""

import copy
from dataclasses import replace

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastgan import randomness
from fastgan.data import ImageError
from fastgan.models import sampling
from fastgan.nn.pack import pack
from fastgan.nn.spectral.parametrization import SpectralNorm

SEED = "first pass"


def check_parameters(generator, discriminator):
    """Errors: ValueError for a network that cannot be trained, or not in float32."""
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        parameters = list(network.parameters())
        if not any(p.requires_grad for p in parameters):
            has = "all its parameters are frozen" if parameters else "it has no parameters"
            raise ValueError(f"{name} must have a parameter that requires a gradient: {has}")
        wrong = [
            (n, p.dtype) for n, p in network.named_parameters() if p.is_floating_point() and p.dtype != torch.float32
        ]
        if wrong:
            raise ValueError(
                f"{name} must have float32 parameters; {wrong[0][0]} is {wrong[0][1]}: call {name}.float()"
            )


def check_normalized(generator, discriminator):
    """Errors: ValueError for a layer with spectral norm whose weight is zero, which has no direction to normalise."""
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        for path, module in network.named_modules():
            chains = module.parametrizations.items() if parametrize.is_parametrized(module) else ()
            for weight, chain in chains:
                if isinstance(chain[0], SpectralNorm) and not chain.original.any():
                    raise ValueError(
                        f"{name}: {path + '.' if path else ''}{weight} is zero and has spectral norm, W / 0: leave the"
                        " layer without spectral norm, or start from other weights"
                    )


def initialize_lazy(generator, discriminator, data, recipe, device, conditional):
    """Give LazyModules their shapes, by a call of both networks in evaluation mode."""
    if not any(nn.parameter.is_lazy(p) for network in (generator, discriminator) for p in network.parameters()):
        return
    count = 2 * recipe.pack
    samples, condition = _batch(data, count, device, conditional)
    modes = [(module, module.training) for network in (generator, discriminator) for module in network.modules()]
    with torch.no_grad(), randomness.global_seed(recipe.seed, SEED, device):
        z = torch.randn(count, generator.z_dim, device=device)
        sampling.generate(generator.eval(), z, condition)
        judged = [pack(t, recipe.pack) for t in (samples, condition) if t is not None]
        discriminator.eval()(*judged)
    for module, mode in modes:
        module.training = mode


def check_first_pass(state, data, due, device, conditional, objective_of, shown):
    """One batch through copies of both networks and all terms of both losses; the state stays as it is.

    due: what is due at the state's step. objective_of(state) -> Objective. shown(samples): real samples as the critic
    sees them at this step. Errors: ValueError that says what does not fit.
    """
    memory = {name: {key: value.clone() for key, value in values.items()} for name, values in state.memory.items()}
    trial = replace(
        state, generator=copy.deepcopy(state.generator), discriminator=copy.deepcopy(state.discriminator), memory=memory
    )
    real, condition = _batch(data, due.samples, device, conditional)
    real = shown(real)
    with _saying("generator"), randomness.global_seed(due.recipe.seed, SEED, device):
        z = torch.randn(due.samples, trial.generator.z_dim, device=device)
        fake = objective_of(trial).generate(trial.generator, z, condition)
        if not isinstance(fake, torch.Tensor) or (fake.shape, fake.dtype) != (real.shape, real.dtype):
            got = f"{tuple(fake.shape)}, {fake.dtype}" if isinstance(fake, torch.Tensor) else type(fake).__name__
            raise ValueError(
                f"generator must make samples like the data's, {tuple(real.shape)}, {real.dtype}; got {got}"
            )
    with _saying("discriminator, penalties and augmentation"), randomness.global_seed(due.recipe.seed, SEED, device):
        objective = objective_of(trial)
        packed = [pack(t, due.recipe.pack) for t in (real, fake)]
        objective.discriminator(objective.critic(trial.discriminator, condition), packed[0], packed[1].detach())
    with _saying("generator's loss"), randomness.global_seed(due.recipe.seed, SEED, device):
        context = {"generator": trial.generator, "latents": z, "condition": condition}
        objective.generator(objective.critic(trial.discriminator, condition), packed[1], packed[0], **context)


class _saying:
    """What a first call raises becomes a ValueError that names the part; out of memory and broken images stay."""

    def __init__(self, part):
        self.part = part

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        passed = (ImageError, ValueError, MemoryError, torch.OutOfMemoryError, OSError)
        if isinstance(error, Exception) and not isinstance(error, passed):
            said = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"the first call of the {self.part} failed: {said:.300}") from error


def _batch(data, count, device, conditional):
    samples, condition = data.batch(torch.arange(count) % len(data))
    return samples.to(device), condition.to(device) if conditional else None
