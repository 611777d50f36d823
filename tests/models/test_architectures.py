"""What each architecture promises beyond its shapes."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from fastgan import models
from fastgan.models.parts.conditioning_augmentation import ConditioningAugmentation
from fastgan.models.pix2pix import pix2pix
from fastgan.models.r3gan import Resample, ResidualBlock
from fastgan.models.two_stage import TwoStageGenerator
from fastgan.nn import SelfAttention2d
from fastgan.penalties import ConditioningKL


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def double(x):
    return F.interpolate(x, scale_factor=2, mode="nearest")


# --- progressive


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_fade_goes_from_the_old_network_to_the_new_one(level):
    generator, discriminator = models.create("progressive", channels=1, resolution=32, width=8, z_dim=6)
    z, x = torch.randn(4, 6), torch.randn(4, 1, 4 << level, 4 << level)

    def stage(level, alpha, x):
        for network in (generator, discriminator):
            network.set_stage(level, alpha)
        with torch.no_grad():
            return generator(z), discriminator(x)

    old_image, old_logits = stage(level - 1, 1, F.avg_pool2d(x, 2))
    image, logits = stage(level, 0, x)
    assert torch.equal(image, double(old_image)) and torch.equal(logits, old_logits)
    (new_image, new_logits), (near, near_logits) = stage(level, 1, x), stage(level, 1 - 1e-6, x)
    torch.testing.assert_close(near, new_image, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(near_logits, new_logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(stage(level, 0.25, x)[0], 0.75 * double(old_image) + 0.25 * new_image)
    assert generator.stage_shape == (1, 4 << level, 4 << level) and generator.shape == (1, 32, 32)


@pytest.mark.parametrize("stage, words", [((4, 1), "level must be"), ((-1, 1), "level"), ((1, 1.5), "alpha must be")])
def test_stages_that_are_not_there_are_refused(stage, words):
    generator, discriminator = models.create("progressive", channels=1, resolution=32, width=8)
    with pytest.raises(ValueError, match=words):
        generator.set_stage(*stage)
    with pytest.raises(ValueError, match="x must have 32 x 32 pixels at level 3"):
        discriminator(torch.ones(1, 1, 16, 16))


# --- r3gan


def test_residual_blocks_start_as_the_identity():
    x = torch.randn(2, 16, 6, 6)
    block = ResidualBlock(16, count=4, group_width=8)
    assert torch.equal(block(x), x)
    assert block.conv2.groups == 2
    torch.nn.init.normal_(block.conv3.weight)
    assert not torch.allclose(block(x), x)


def test_resampling_keeps_constants_and_drops_the_highest_frequency():
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))  # beyond the border there are zeros
    ones, checker = torch.ones(1, 2, 8, 8), torch.ones(1, 2, 8, 8)
    checker[..., 1::2] = -1
    up, down = Resample(2, 2, up=True), Resample(2, 2, up=False)
    assert up(ones).shape == (1, 2, 16, 16) and down(ones).shape == (1, 2, 4, 4)
    torch.testing.assert_close(up(ones)[inner], torch.ones(1, 2, 14, 14))
    torch.testing.assert_close(down(ones)[inner], torch.ones(1, 2, 2, 2))
    torch.testing.assert_close(down(checker)[inner], torch.zeros(1, 2, 2, 2))
    ramp = torch.arange(8.0).expand(1, 2, 8, 8)
    between = torch.arange(0.25, 7, 0.5)  # samples stay centred: a quarter of a pixel on either side of each
    torch.testing.assert_close(up(ramp)[inner][0, 0, 0], between)


# --- biggan


@pytest.mark.parametrize("resolution, side", [(28, 14), (32, 16), (64, 32), (128, 64)])
def test_biggan_attends_on_the_map_that_fits(resolution, side):
    pair = models.create("biggan", channels=1, resolution=resolution, width=4)
    seen, images = [], torch.zeros(2, 1, resolution, resolution)
    for network, call in zip(pair, (lambda g: g(torch.randn(2, g.z_dim)), lambda d: d(images)), strict=True):
        (layer,) = (m for m in network.modules() if isinstance(m, SelfAttention2d))
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2:]))
        call(network)
    assert seen == [(side, side)] * 2
    for network in models.create("biggan", channels=1, resolution=resolution, width=4, attention=0):
        assert not any(isinstance(m, SelfAttention2d) for m in network.modules())


def test_each_chunk_of_biggans_z_is_heard():
    generator, _ = models.create("biggan", channels=1, resolution=32, width=4, z_dim=11, classes=2)
    assert generator.z_dim == 8  # four chunks of two
    z = torch.randn(2, 8, requires_grad=True)
    generator(z, torch.tensor([0, 1]))[0, 0, :3].sum().backward()
    assert (z.grad[0] != 0).all()


# --- pix2pix


@pytest.mark.parametrize("n_layers, field", [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_a_patch_has_the_receptive_field_of_the_paper(n_layers, field):
    side = 512 if n_layers > 3 else 256
    discriminator = pix2pix(1, side, width=2, n_layers=n_layers, norm="none").discriminator
    for p in discriminator.parameters():  # positive weights: nothing cancels
        p.data.abs_().add_(0.1)
    x = torch.ones(1, 1, side, side, requires_grad=True)
    logits = discriminator(x, torch.ones(1, 1, side, side))
    middle = logits.shape[2] // 2
    logits[0, 0, middle, middle].backward()
    rows = x.grad[0, 0].abs().sum(1).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == field


def test_the_u_net_hands_detail_over_and_stays_noisy_when_evaluating():
    generator = pix2pix(1, 28, width=4).generator.eval()
    source = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        assert not torch.equal(generator(None, source), generator(None, source))
        quiet = pix2pix(1, 28, width=4, dropout_at_test=False).generator.eval()
        assert torch.equal(quiet(None, source), quiet(None, source))
        assert quiet(None, F.avg_pool2d(source, 4)).shape == (2, 1, 28, 28)  # as for super-resolution
    with pytest.raises(ValueError, match="n_layers must be at least 1, with 28 >> n_layers at least 3; got 5"):
        pix2pix(1, 28, n_layers=5)
    with pytest.raises(ValueError, match="norm must be one of batch, instance, none"):
        pix2pix(1, 28, norm="layer")


# --- two_stage


def test_stage_two_at_identity_reproduces_stage_one_enlarged():
    shapes = models.create("dcgan", channels=1, resolution=16, width=4, z_dim=5).generator
    generator, _ = models.create(
        "two_stage", channels=4, resolution=32, width=4, z_dim=3, stage_one=shapes, residual=True
    )
    z = torch.randn(2, 8)
    with torch.no_grad():
        drawn = double(shapes(z[:, :5]))
        assert torch.equal(generator(z), drawn.expand(2, 4, 32, 32))


@pytest.mark.parametrize("train", [False, True])
def test_stage_one_is_frozen_or_trained(train):
    shapes = models.create("dcgan", channels=1, resolution=28, width=4, z_dim=5).generator
    generator, discriminator = models.create(
        "two_stage", channels=2, resolution=28, width=4, stage_one=shapes, train_stage_one=train
    )
    assert isinstance(generator, TwoStageGenerator)
    generator.train()
    before = [b.clone() for b in shapes.buffers()]
    discriminator(generator(torch.randn(4, generator.z_dim))).sum().backward()
    assert all((p.grad is not None) == train for p in shapes.parameters())
    assert all(p.grad is not None for p in generator.stage_two.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, shapes.buffers(), strict=True)) != train


def test_conditioning_augmentation_and_its_kl():
    augmentation, c = ConditioningAugmentation(6, 4), torch.randn(50_000, 6)[:1].expand(50_000, 6)
    mean, log_std = F.leaky_relu(augmentation.linear(c[:1]), 0.2).chunk(2, 1)
    samples = augmentation(c)
    torch.testing.assert_close(samples.mean(0), mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(samples.std(0), log_std[0].exp(), atol=0, rtol=0.02)
    ours, unit = torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(ours, unit).sum()
    torch.testing.assert_close(augmentation.kl(c[:3]), expected)
    torch.testing.assert_close(augmentation.kl(c[:3], per_dimension=True), expected / 4)
    generator, _ = models.create("two_stage", channels=2, resolution=28, width=4, classes=3)
    critic = SimpleNamespace(condition=torch.tensor([0, 2]))
    ConditioningKL(2.0)(critic, real=None, fake=None, generator=generator).backward()
    assert generator.stage_two.augmentation.linear.weight.grad.abs().sum() > 0
    with pytest.raises(TypeError, match="ConditioningKL needs"):
        ConditioningKL()(critic, real=None, fake=None, generator=torch.nn.Identity())


# --- mlp


def test_presets_are_the_toys_of_their_papers():
    generator, discriminator = models.create("mlp", features=2, preset="pacgan", pack=4)
    first, norm = generator.hidden[0], generator.hidden[1]
    assert first.weight.shape == (400, 2) and first.bias is None and norm.momentum == 0.05
    assert discriminator.hidden[0].weight.shape == (1000, 8)
    assert 0.015 < first.weight.std() < 0.025
    generator, discriminator = models.create("mlp", features=2, preset="unrolled")
    assert generator.z_dim == 256 and isinstance(discriminator.hidden[1], torch.nn.Tanh)
    torch.testing.assert_close(torch.linalg.svdvals(generator.hidden[2].weight), torch.full((128,), 1.4))
    generator, _ = models.create("mlp", features=2, preset="wgan_gp", width=64, classes=2)
    assert generator(torch.randn(5, 2), torch.zeros(5, dtype=torch.int64)).shape == (5, 2) == (5, *generator.shape)
    assert len([m for m in generator.hidden if isinstance(m, torch.nn.Linear)]) == 3


@pytest.mark.parametrize(
    "options, words",
    [
        ({}, r"needs either features= \(vectors\) or channels= and resolution="),
        ({"features": 2, "channels": 1, "resolution": 8}, "not both"),
        ({"features": 2, "preset": "vaegan"}, "preset must be one of pacgan, unrolled, wgan_gp"),
        ({"features": 2, "init": "zero"}, "init must be one of paper, he, orthogonal"),
        ({"features": 2, "activation": "elu"}, 'activation must be "relu", "tanh" or "maxout"'),
    ],
)
def test_an_mlp_that_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        models.create("mlp", **options)
