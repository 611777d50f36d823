"""The SAGAN pair: where attention sits, what is normalised, and what it adds to SN-GAN's pair."""

import pytest
import torch
from torch.nn.utils import parametrize

from fastgan import models
from fastgan.models.initialize import WEIGHT_LAYERS
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
