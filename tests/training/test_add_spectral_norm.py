"""Spectral norm by one field of the recipe: what cannot have it is left alone, and advice does not name what is on."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

import fastgan
from fastgan import Recipe, Trainer, data
from fastgan.training.add_spectral_norm import add_spectral_norm
from fastgan.training.step.running_means import advice_against_divergence


def test_a_weight_that_starts_at_zero_is_left_without_spectral_norm_and_named(toy):
    generator, discriminator = toy.pair()
    last = discriminator.layers[-1]
    nn.init.zeros_(last.weight)
    with pytest.warns(
        UserWarning, match=r"discriminator has no spectral norm on layers\.4: these weights start at zero"
    ):
        pair = add_spectral_norm((generator, discriminator), Recipe(spectral_norm="both"))
    assert not parametrize.is_parametrized(last)
    for network, x in zip(pair, (torch.randn(4, 3), torch.randn(4, 2)), strict=True):
        assert any(parametrize.is_parametrized(module) for module in network.modules())
        assert network(x).isfinite().all()


@pytest.mark.filterwarnings("ignore:the generator has no spectral norm")
def test_a_class_conditional_network_trains(tmp_path):
    pair = fastgan.models.create("sngan", channels=1, resolution=16, width=8, classes=4)
    images = torch.randint(0, 256, (16, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labelled = data.TensorData(images, torch.arange(16) % 4)
    recipe = Recipe(batch_size=4, spectral_norm="both")
    trainer = Trainer(*pair, recipe, labelled, run_dir=tmp_path / "run", device="cpu", progress=False)
    trainer.fit(2)
    assert all(p.isfinite().all() for p in trainer.state.generator.parameters())


def test_networks_of_volumes_train_by_default(tmp_path):
    class Volume(nn.Module):
        z_dim = 4

        def __init__(self):
            super().__init__()
            self.linear, self.up = nn.Linear(4, 64), fastgan.nn.SNConvTranspose3d(8, 1, 2, 2)
            self.flat = nn.Conv2d(1, 1, (2, 3))  # a weight of images beside it

        def forward(self, z):
            return self.up(self.linear(z).view(-1, 8, 2, 2, 2)).tanh()

    critic = nn.Sequential(fastgan.nn.SNConv3d(1, 4, 2, 2), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(32, 1))
    critic.append(nn.Flatten(0))
    generator = Volume()
    Trainer(
        generator,
        critic,
        Recipe(batch_size=4),
        torch.rand(8, 1, 4, 4, 4),
        run_dir=tmp_path,
        device="cpu",
        progress=False,
    ).fit(1)
    assert generator.flat.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_advice_against_divergence_leaves_out_what_is_on(toy):
    _, discriminator = toy.pair()
    assert "a penalty or spectral norm" in advice_against_divergence(Recipe(), discriminator)
    assert "penalty" not in advice_against_divergence(Recipe(penalties=("R1()",)), discriminator)
    fastgan.nn.spectral_norm(discriminator.layers[0])
    assert "spectral norm" not in advice_against_divergence(Recipe(), discriminator)
