import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from fastgan import models
from fastgan.models.resolution import halvings

SMALL = {"dcgan": 8, "sngan": 16}


def make(name, **kw):
    torch.manual_seed(0)
    return models.create(name, **{"channels": 1, "resolution": 28, "width": SMALL[name], **kw})


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("resolution", [28, 32, 48, 64, 128])
@pytest.mark.parametrize("channels, classes", [(1, None), (3, 10)])
def test_every_size_makes_images_and_logits(name, resolution, channels, classes):
    generator, discriminator = make(name, channels=channels, resolution=resolution, classes=classes)
    labels = () if classes is None else (torch.tensor([0, classes - 1]),)
    images = generator(torch.randn(2, generator.z_dim), *labels)
    assert images.shape == (2, channels, resolution, resolution) == (2, *generator.shape)
    assert images.abs().max() <= 1
    assert discriminator(images, *labels).shape == (2,)


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("spectral_norm", ["none", "discriminator", "both"])
def test_spectral_norm_is_where_it_was_asked_for(name, spectral_norm):
    generator, discriminator = make(name, classes=3, spectral_norm=spectral_norm)
    layers = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    for network, weights, chosen in (
        (generator, layers, spectral_norm == "both"),
        (discriminator, (*layers, nn.Embedding), spectral_norm != "none"),
    ):
        for module in network.modules():
            if isinstance(module, weights):
                assert parametrize.is_parametrized(module, "weight") == chosen, module


@pytest.mark.parametrize("name", models.names())
def test_initial_weights_have_unit_spectral_norm(name):
    for network in make(name, spectral_norm="both"):
        network.eval()
        for module in network.modules():
            if parametrize.is_parametrized(module, "weight"):
                matrix = module.weight.movedim(module.parametrizations.weight[0].dim, 0).flatten(1)
                assert 0.95 < torch.linalg.matrix_norm(matrix, 2) < 1.1


@pytest.mark.parametrize("name", models.names())
def test_a_label_changes_what_both_networks_say(name):
    generator, discriminator = make(name, classes=4)
    with torch.no_grad():
        for network in (generator, discriminator):
            for module in network.modules():  # conditional batch norm starts out equal for all classes
                if getattr(module, "gain_and_bias", None) is not None:
                    module.gain_and_bias.weight.normal_(std=0.1)
        z = torch.randn(1, generator.z_dim).repeat(2, 1)
        same, other = torch.tensor([1, 1]), torch.tensor([1, 2])
        assert torch.allclose(*generator(z, same), atol=1e-5)
        assert not torch.allclose(*generator(z, other), atol=1e-3)
        images = generator(z, same)
        assert torch.allclose(*discriminator(images, same), atol=1e-5)
        assert not torch.allclose(*discriminator(images, other), atol=1e-5)


@pytest.mark.parametrize("name", models.names())
def test_each_parameter_has_a_gradient(name):
    generator, discriminator = make(name, classes=2)
    labels = torch.tensor([0, 1, 0, 1])
    discriminator(generator(torch.randn(4, generator.z_dim), labels), labels).square().sum().backward()
    for network in (generator, discriminator):
        missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not missing


# SN-GAN's residual pair for 32 pixels; DCGAN's as in PyTorch's example, which has no bias in the first and last layers.
@pytest.mark.parametrize(
    "arguments, generator, discriminator",
    [
        ({"name": "sngan", "channels": 3, "resolution": 32}, 4_276_739, 1_053_825),
        ({"name": "dcgan", "channels": 3, "resolution": 64, "width": 64}, 3_576_704 + 3, 2_765_568 + 65),
    ],
)
def test_published_sizes(arguments, generator, discriminator):
    pair = models.create(**arguments, spectral_norm="none")
    counts = [sum(p.numel() for p in network.parameters()) for network in pair]
    assert counts == [generator, discriminator]


@pytest.mark.parametrize("resolution, expected", [(28, (7, 2)), (32, (4, 3)), (48, (6, 3)), (64, (4, 4)), (8, (4, 1))])
def test_halvings(resolution, expected):
    assert halvings(resolution) == expected


@pytest.mark.parametrize("resolution", [0, 4, 7, 30, 31, 100, 36])
def test_resolutions_that_cannot_be_halved_are_refused(resolution):
    with pytest.raises(ValueError, match=f"resolution must be .* got {resolution}"):
        halvings(resolution)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"name": "nogan"}, "model must be one of dcgan, sngan; got 'nogan'"),
        ({"width": 0}, "width must be a positive integer, got 0"),
        ({"z_dim": 1.5}, "z_dim must be a positive integer, got 1.5"),
        ({"classes": -1}, "classes must be"),
        ({"spectral_norm": "yes"}, "spectral_norm must be one of none, discriminator, both; got 'yes'"),
        ({"name": "sngan", "resolution": 64, "width": 24}, "width must be a multiple of 16 .* got 24"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, words):
    with pytest.raises(ValueError, match=words):
        models.create(**{"name": "dcgan", "channels": 1, "resolution": 28, **change})
