"""Penalties through fastgan's models: parameter gradients are those of the same network in plain torch, in fp64."""

import copy
import sys
from contextlib import contextmanager

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize
from torch.utils._python_dispatch import TorchDispatchMode

import fastgan
from fastgan.nn.couples_samples import couples_samples
from fastgan.penalties import WGANGP
from fastgan.penalties.critic import Critic

# Those of one stage; a progressive or two-stage pair, or one of points or image pairs, is built in another way.
CRITICS = [n for n in fastgan.models.names() if n in ("dcgan", "sngan", "sagan", "biggan", "wgan_gp", "r3gan")]


def critic_of(name):
    torch.manual_seed(0)
    critic = fastgan.models.create(name, channels=2, resolution=28, width=16, classes=3).discriminator.double()
    for module in critic.modules():
        if isinstance(module, fastgan.nn.SelfAttention2d):
            torch.nn.init.ones_(module.gamma)  # at its initial 0 attention has no part in the output
    return critic


@pytest.fixture
def plain_ops(monkeypatch):
    """with plain_ops(): every op of ours runs its reference in plain torch, differentiated by torch."""

    @contextmanager
    def switch():
        with monkeypatch.context() as patch:
            for module in [module for name, module in sys.modules.items() if name.startswith("fastgan.ops.")]:
                if hasattr(module, "needs_reference"):
                    patch.setattr(module, "needs_reference", lambda *tensors, **kw: True)
            with no_compiled_op():
                yield

    return switch


class no_compiled_op(TorchDispatchMode):
    """Fails where a compiled op of ours runs nevertheless."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.namespace != "fastgan", function
        return function(*args, **(kwargs or {}))


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
def test_parameter_gradients_equal_plain_torchs(name, plain_ops):
    critic = critic_of(name)
    assert not couples_samples(critic)
    twin = in_plain_torch(critic)
    labels = torch.tensor([0, 2, 1])
    real, fake = torch.randn(2, 3, 2, 28, 28, dtype=torch.float64)
    value = WGANGP()(Critic(critic, labels), real=real, fake=fake, rng=torch.Generator().manual_seed(4))
    value.backward()
    x = WGANGP().draw(real, fake, torch.Generator().manual_seed(4))
    with plain_ops():
        plain_penalty(Critic(twin, labels), x, 10.0, 1.0).backward()
    compared = 0
    for (key, ours), theirs in zip(critic.named_parameters(), twin.parameters(), strict=True):
        if theirs.grad is None or ours.grad is None:
            assert all(p.grad is None or not p.grad.any() for p in (ours, theirs)), key
            continue
        assert (ours.grad - theirs.grad).norm() <= 1e-9 * theirs.grad.norm() + 1e-14, key
        compared += theirs.grad.norm() > 1e-9
    assert compared >= 3
