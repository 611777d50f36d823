"""The SAGAN pair: where attention sits, what is normalised, and what it adds to SN-GAN's pair."""

import pytest
import torch
from torch.nn.utils import parametrize

from fastgan import models
from fastgan.models.parts.initialize import WEIGHT_LAYERS
from fastgan.nn import SelfAttention2d


def make(name="sagan", resolution=28, **kw):
    torch.manual_seed(0)
    return models.create(name, channels=1, resolution=resolution, width=16, **kw)


def attention_of(network):
    (layer,) = (module for module in network.modules() if isinstance(module, SelfAttention2d))
    return layer


@pytest.mark.parametrize("resolution, side", [(28, 14), (32, 16), (64, 32), (128, 32)])
def test_both_networks_attend_once_at_the_same_map(resolution, side):
    generator, critic = make(resolution=resolution)
    seen = []
    for network in (generator, critic):
        attention_of(network).register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[2:]))
    with torch.no_grad():
        critic(generator(torch.randn(1, generator.z_dim)))
    assert seen == [(side, side)] * 2


def test_every_weight_of_both_networks_is_spectrally_normalised():
    for network in make():
        for module in network.modules():
            if isinstance(module, WEIGHT_LAYERS):
                assert parametrize.is_parametrized(module, "weight"), module


def test_is_sngan_until_gamma_moves():
    """gamma starts at 0, so the pair is SN-GAN's with the same weights; afterwards it is not."""
    for theirs, ours in zip(make("sngan", spectral_norm="none"), make(spectral_norm="none"), strict=True):
        rest = [p for n, p in ours.named_parameters() if not n.startswith(attention_name(ours))]
        with torch.no_grad():
            for p, q in zip(theirs.parameters(), rest, strict=True):
                q.copy_(p)
        x = torch.randn(2, theirs.z_dim) if hasattr(theirs, "z_dim") else torch.randn(2, 1, 28, 28)
        torch.testing.assert_close(ours(x), theirs(x))
        torch.nn.init.ones_(attention_of(ours).gamma)
        assert not torch.allclose(ours(x), theirs(x), atol=1e-3)


def attention_name(network):
    return next(name for name, module in network.named_modules() if isinstance(module, SelfAttention2d))


def math_attention(q, k, v, *, scale, similarity):
    assert similarity == "dot"
    return (scale * q @ k.mT).softmax(-1) @ v


def penalty(critic, x):
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return 10 * (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def test_the_critic_trains_under_a_gradient_penalty_and_its_gradients_are_maths(monkeypatch):
    """200 steps of WGAN-GP, finite throughout; then every gradient of the penalty in fp64, against plain torch."""
    torch.manual_seed(0)
    generator, critic = models.create("sagan", channels=1, resolution=16, width=8, z_dim=4)
    for network in (generator, critic):
        torch.nn.init.constant_(attention_of(network).gamma, 0.5)
    optimizers = [torch.optim.Adam(network.parameters(), 5e-4, betas=(0.0, 0.9)) for network in (generator, critic)]
    for step in range(200):
        real, fake = torch.randn(4, 1, 16, 16).tanh(), generator(torch.randn(4, 4))
        t = torch.rand(4, 1, 1, 1)
        mixed = (t * real + (1 - t) * fake).detach()
        loss = critic(fake.detach()).mean() - critic(real).mean() + penalty(critic, mixed)
        optimizers[1].zero_grad()
        loss.backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (-critic(fake).mean()).backward()
        optimizers[0].step()
        assert loss.isfinite(), step
    critic.double().eval()
    x, weights = torch.randn(3, 1, 16, 16, dtype=torch.float64), list(critic.parameters())
    ours = torch.autograd.grad(penalty(critic, x), weights, materialize_grads=True)
    monkeypatch.setattr("fastgan.nn.self_attention.attention", math_attention)
    expected = torch.autograd.grad(penalty(critic, x), weights, materialize_grads=True)
    assert attention_of(critic).theta.weight.abs().sum() > 0 and any(g.abs().sum() > 0 for g in ours)
    torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-10)


def test_images_too_small_for_a_map_between_are_refused():
    with pytest.raises(ValueError, match=r"resolution must be 4 to 7 times 4, 8, 16, \.\.\. for attention, got 8"):
        make(resolution=8)
