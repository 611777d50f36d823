"""Penalties through fastgan's models: parameter gradients are those of the same network in plain torch, in fp64."""

import copy

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize

import fastgan
from fastgan.nn.couples_samples import couples_samples
from fastgan.penalties import WGANGP
from fastgan.training.critic import Critic

# Those of one stage; a progressive or two-stage pair, or one of points or image pairs, is built in another way.
CRITICS = [n for n in fastgan.models.names() if n in ("dcgan", "sngan", "sagan", "biggan", "wgan_gp", "r3gan")]


def critic_of(name):
    torch.manual_seed(0)
    return fastgan.models.create(name, channels=2, resolution=28, width=16, classes=3).discriminator.double()


def in_plain_torch(critic):
    """The same critic with torch's spectral norm: the same state_dict, none of our kernels for it."""
    twin = fastgan.nn.unfuse_spectral_norm(copy.deepcopy(critic))
    for module in list(twin.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name, leave_parametrized=False)
                parametrizations.spectral_norm(module, name)
    twin.load_state_dict(critic.state_dict())
    return twin


def plain_penalty(critic, x, weight, target):
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    norms = gradient.flatten(1).square().sum(1).sqrt()
    return weight * (norms - target).square().mean()


@pytest.mark.parametrize("name", CRITICS)
def test_parameter_gradients_equal_plain_torchs(name):
    critic = critic_of(name)
    assert not couples_samples(critic)
    twin = in_plain_torch(critic)
    labels = torch.tensor([0, 2, 1])
    real, fake = torch.randn(2, 3, 2, 28, 28, dtype=torch.float64)
    value = WGANGP()(Critic(critic, labels), real=real, fake=fake, generator=torch.Generator().manual_seed(4))
    value.backward()
    x = WGANGP().draw(real, fake, torch.Generator().manual_seed(4))
    plain_penalty(Critic(twin, labels), x, 10.0, 1.0).backward()
    compared = 0
    for (key, ours), theirs in zip(critic.named_parameters(), twin.parameters(), strict=True):
        if theirs.grad is not None and theirs.grad.norm() > 0:
            assert (ours.grad - theirs.grad).norm() <= 1e-9 * theirs.grad.norm(), key
            compared += 1
    assert compared >= 3
