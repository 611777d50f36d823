from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from fastgan import models
from fastgan.models.parts.resolution import halvings
from fastgan.nn import Pack
from fastgan.penalties import AuxiliaryClassifier

SMALL = {
    "dcgan": 4,
    "sngan": 16,
    "sagan": 16,
    "mlp": 16,
    "biggan": 4,
    "progressive": 8,
    "r3gan": 16,
    "two_stage": 4,
    "pix2pix": 4,
    "wgan_gp": 8,
}
NAMES = tuple(SMALL)
CONDITIONAL = tuple(name for name in NAMES if name != "pix2pix")
SPECTRAL = ("dcgan", "sngan", "sagan", "mlp", "biggan", "wgan_gp")


def make(name, **kw):
    torch.manual_seed(0)
    channels = 2 if name == "two_stage" else 1
    return models.create(name, **{"channels": channels, "resolution": 28, "width": SMALL[name], **kw})


def arguments(generator, batch):
    """The condition's, for either network."""
    if generator.classes:
        return (torch.arange(batch) % generator.classes,)
    return (torch.randn(batch, *generator.shape),) if generator.z_dim == 0 else ()


CASES = [(name, classes) for name in NAMES for classes in ((None, 3) if name in CONDITIONAL else (None,))]


@pytest.mark.parametrize("name, classes", CASES)
@pytest.mark.parametrize("resolution", [28, 32, 64, 128])
@pytest.mark.parametrize("pack", [1, 2])
def test_every_size_makes_images_logits_and_gradients(name, classes, resolution, pack):
    options = {} if classes is None else {"classes": classes}
    generator, discriminator = make(name, resolution=resolution, pack=pack, **options)
    condition = arguments(generator, 4)
    images = generator(torch.randn(4, generator.z_dim), *condition)
    assert images.shape == (4, 2 if name == "two_stage" else 1, resolution, resolution) == (4, *generator.shape)
    if name not in ("progressive", "r3gan"):  # whose papers end in no tanh
        assert images.abs().max() <= 1
    logits = Pack(discriminator, pack)(images, *condition)
    assert logits.shape[0] == 4 // pack and logits.dim() == (4 if name == "pix2pix" else 1)
    logits.square().sum().backward()
    for network in (generator, discriminator):
        missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not [n for n in missing if name != "progressive" or "rgb" not in n]


@pytest.mark.parametrize("name, classes", CASES)
def test_every_critic_takes_a_gradient_penalty(name, classes):
    options = {} if classes is None else {"classes": classes}
    generator, discriminator = make(name, **options)
    condition = arguments(generator, 4)
    x = torch.randn(4, *generator.shape, requires_grad=True)
    (slope,) = torch.autograd.grad(discriminator(x, *condition).sum(), x, create_graph=True)
    slope.square().sum().backward()
    gradients = [p.grad for p in discriminator.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("name", NAMES)
def test_packing_widens_the_first_layer_alone(name):
    """And with a pack of one, nothing at all."""
    alone, packed = (dict(make(name, pack=pack).discriminator.named_parameters()) for pack in (1, 3))
    wider = [n for n in alone if alone[n].shape != packed[n].shape]
    assert alone.keys() == packed.keys()
    assert all(packed[n].shape[1] == 3 * alone[n].shape[1] for n in wider)
    # A residual block's shortcut too; an entry for each level.
    block = {"sngan": 2, "sagan": 2, "biggan": 2, "wgan_gp": 2, "progressive": 3}
    assert len(wider) == block.get(name, 1)


def test_packed_labels_have_an_embedding_for_each_place():
    discriminator = make("dcgan", classes=3, pack=2).discriminator
    x = torch.randn(1, 2, 28, 28).repeat(3, 1, 1, 1)
    with torch.no_grad():
        logits = discriminator(x, torch.tensor([[0, 1], [1, 0], [0, 1]]))
    assert logits[0] == logits[2] != logits[1]
    with pytest.raises(ValueError, match=r"labels must have shape \(3, 2\), got \(3,\)"):
        discriminator(x, torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("name", ["dcgan", "sngan", "wgan_gp", "biggan"])
@pytest.mark.parametrize("pack", [1, 2])
def test_an_auxiliary_classifier_learns_the_labels(name, pack):
    _, discriminator = make(name, classes=2, head="auxiliary", pack=pack)
    labels, critic = torch.tensor([0, 0, 1, 1, 0, 1, 1, 0]), Pack(discriminator, pack)
    x = torch.where(labels == 1, 1.0, -1.0)[:, None, None, None] + 0.1 * torch.randn(8, 1, 28, 28)
    carries = SimpleNamespace(discriminator=discriminator, condition=critic.pack(labels))
    term = AuxiliaryClassifier(weight=0.5)
    optimizer, x = torch.optim.Adam(discriminator.parameters(), 1e-3), critic.pack(x)
    values = []
    for _ in range(8):
        values.append(term(carries, real=x, fake=x))
        optimizer.zero_grad()
        values[-1].backward()
        optimizer.step()
    assert values[-1] < 0.8 * values[0]
    logits = discriminator.classify(x)
    assert logits.shape == ((8, 2) if pack == 1 else (4, 2, 2))
    cross_entropy = torch.nn.functional.cross_entropy(discriminator.eval().classify(x), carries.condition)
    torch.testing.assert_close(term(carries, real=x, fake=x), cross_entropy)  # 0.5 * (real + fake)
    torch.testing.assert_close(term.of_generator(carries, fake=x)[0], cross_entropy / 2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'generator'"):
        term(carries, real=x, fake=x, generator=torch.Generator())
    assert torch.equal(discriminator(x, carries.condition), discriminator(x))


def test_an_auxiliary_classifier_says_what_it_needs():
    with pytest.raises(TypeError, match="head='auxiliary'"):
        carries = SimpleNamespace(discriminator=make("mlp", classes=2).discriminator, condition=torch.tensor([0]))
        AuxiliaryClassifier()(carries, real=torch.ones(1), fake=torch.ones(1))
    with pytest.raises(ValueError, match="classes must be a positive integer"):
        make("dcgan", head="auxiliary")


@pytest.mark.parametrize("name", SPECTRAL)
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


@pytest.mark.parametrize("name", SPECTRAL)
def test_initial_weights_have_unit_spectral_norm(name):
    for network in make(name, spectral_norm="both"):
        network.eval()
        for module in network.modules():
            if parametrize.is_parametrized(module, "weight"):
                matrix = module.weight.movedim(module.parametrizations.weight[0].dim, 0).flatten(1)
                assert 0.95 < torch.linalg.matrix_norm(matrix, 2) < 1.1


@pytest.mark.parametrize("name", ["dcgan", "sngan", "mlp", "biggan", "progressive", "r3gan"])
def test_a_label_changes_what_both_networks_say(name):
    generator, discriminator = make(name, classes=4)
    with torch.no_grad():
        for network in (generator, discriminator):
            for module in network.modules():  # conditional batch norm starts out equal for all classes
                if getattr(module, "gain_and_bias", None) is not None:
                    module.gain_and_bias.weight.normal_(std=0.1)
            network.eval()  # a minibatch's statistics are another test's
        z = torch.randn(1, generator.z_dim).repeat(2, 1)
        same, other = torch.tensor([1, 1]), torch.tensor([1, 2])
        assert torch.allclose(*generator(z, same), atol=1e-5)
        assert not torch.allclose(*generator(z, other), atol=1e-3)
        images = generator(z, same)
        assert torch.allclose(*discriminator(images, same), atol=1e-5)
        assert not torch.allclose(*discriminator(images, other), atol=1e-5)


# SN-GAN's and WGAN-GP's residual pairs for 32 pixels, whose critics differ in normalisation alone;
# DCGAN's as in PyTorch's example, which has no bias in the first and last layers;
# BigGAN's at 128 as google/compare_gan tests it.
# pix2pix' as reported by users of the PyTorch port (54.408 M and 2.765 M; 29.238 M and 0.662 M; grey images).
# PacGAN's by its description: 2-400-400-400-400-2 with batch norm, and 2-3 x (200 x 5)-1.
PACGAN = (2 * 400 + 3 * 400**2 + 4 * 800 + 401 * 2, 3 * 1000 + 2 * 201 * 1000 + 201)


@pytest.mark.parametrize(
    "arguments, generator, discriminator",
    [
        ({"name": "sngan", "channels": 3, "resolution": 32}, 4_276_739, 1_053_825),
        ({"name": "wgan_gp", "channels": 3, "resolution": 32, "norm": "none"}, 1_204_483, 1_053_825),
        ({"name": "wgan_gp", "channels": 3, "resolution": 32, "norm": "layer"}, 1_204_483, 1_053_825 + 6 * 256),
        ({"name": "dcgan", "channels": 3, "resolution": 64, "width": 64}, 3_576_704 + 3, 2_765_568 + 65),
        ({"name": "biggan", "channels": 3, "resolution": 128, "classes": 1000, "width": 96}, 70_433_988, 87_982_370),
        ({"name": "pix2pix", "channels": 1, "resolution": 256}, 54_407_809, 2_764_609),
        ({"name": "pix2pix", "channels": 1, "resolution": 64, "n_layers": 2}, 29_237_889, 662_337),
        ({"name": "mlp", "features": 2, "preset": "pacgan"}, *PACGAN),
    ],
)
def test_published_sizes(arguments, generator, discriminator):
    assert sizes(**arguments, spectral_norm="none") == [generator, discriminator]


def test_progan_has_the_size_of_the_paper():
    """23.1 million parameters in either network at 1024 pixels (Table 2)."""
    assert [round(size / 1e6, 1) for size in sizes("progressive", channels=3, resolution=1024)] == [23.1, 23.1]


def test_r3gan_has_the_size_of_the_paper():
    """Counted from the published code's layers and presets, stage by stage, as (resolution's width, cardinality)."""

    def stage(width, groups, blocks=2):
        return blocks * (2 * width * 2 * width + 9 * (2 * width) ** 2 // groups + 2 * 2 * width)

    def pair(widths, cardinalities, z_dim=64, classes=0):
        body = sum(map(stage, widths, cardinalities)) + sum(a * b for a, b in pairwise(widths) if a != b)
        generator = 16 * widths[0] + (z_dim * (2 if classes else 1)) * widths[0] + classes * z_dim + 3 * widths[-1]
        head = widths[0] * (widths[0] + classes) if classes else widths[0]
        return [body + generator, body + 3 * widths[-1] + 16 * widths[0] + head]

    cifar = {"channels": 3, "resolution": 32, "classes": 10}
    assert sizes("r3gan", **cifar) == pair([768] * 4, [96] * 4, classes=10)
    ffhq_256 = [768, 768, 768, 768, 384, 192, 96], [96, 96, 96, 96, 48, 24, 12]
    assert sizes("r3gan", channels=3, resolution=256) == pair(*ffhq_256)
    assert [round(size / 1e6, 3) for size in pair(*ffhq_256)] == [23.058, 23.010]  # the paper's configuration E
    imagenet_32 = {"channels": 3, "resolution": 32, "classes": 1000, "width": 1536, "group_width": 16}
    assert sizes("r3gan", **imagenet_32) == pair([1536] * 4, [96] * 4, classes=1000)


def sizes(name, **kw):
    with torch.device("meta"):  # no memory, no numbers
        return [sum(p.numel() for p in network.parameters()) for network in models.create(name, **kw)]


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
        ({"name": "nogan"}, "model must be one of dcgan, sngan, .*; got 'nogan'"),
        ({"depth": 3, "colour": "red"}, "dcgan has no option colour, depth; it has channels, resolution, .*, head"),
        ({"pack": 0}, "pack must be a positive integer, got 0"),
        ({"head": "both"}, "head must be one of projection, auxiliary; got 'both'"),
        ({"name": "pix2pix", "classes": 3}, "pix2pix has no option classes"),
        ({"name": "progressive", "spectral_norm": "both"}, "progressive has no option spectral_norm"),
        ({"name": "r3gan", "spectral_norm": "both"}, "spectral_norm must be none"),
        ({"width": 0}, "width must be a positive integer, got 0"),
        ({"z_dim": 1.5}, "z_dim must be a positive integer, got 1.5"),
        ({"classes": -1}, "classes must be"),
        ({"spectral_norm": "yes"}, "spectral_norm must be one of none, discriminator, both; got 'yes'"),
        ({"name": "wgan_gp", "norm": "batch"}, "norm must be one of layer, group, none; got 'batch'"),
        ({"name": "sngan", "resolution": 64, "width": 24}, "width must be a multiple of 16 .* got 24"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, words):
    with pytest.raises(ValueError, match=words):
        models.create(**{"name": "dcgan", "channels": 1, "resolution": 28, **change})


@pytest.mark.parametrize("norm", ["layer", "group", "none"])
@pytest.mark.parametrize("resolution", [28, 64])
def test_wgan_gp_s_critic_scores_each_sample_for_itself(norm, resolution):
    _, critic = make("wgan_gp", norm=norm, resolution=resolution)
    x = torch.randn(3, 1, resolution, resolution)
    torch.testing.assert_close(critic(x)[1:], critic(x[1:]), rtol=1e-4, atol=1e-5)
