"""fastgan.nn.convert: an existing model on fastgan's layers, with the same numbers, names and tensors."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import fastgan
from fastgan.nn.spectral.fuse import FusedSpectralNorm


class Attention(nn.Module):
    """BigGAN-PyTorch's block, from its structure."""

    def __init__(self, channels, pool=True, which_conv=nn.Conv2d, scale=1.0):
        super().__init__()
        self.channels, self.pool, self.scale = channels, pool, scale
        self.theta = which_conv(channels, channels // 8, 1, bias=False)
        self.phi = which_conv(channels, channels // 8, 1, bias=False)
        self.g = which_conv(channels, channels // 2, 1, bias=False)
        self.o = which_conv(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.tensor(0.0))

    def forward(self, x, y=None):
        q, k, v = self.theta(x), self.phi(x), self.g(x)
        if self.pool:
            k, v = F.max_pool2d(k, 2), F.max_pool2d(v, 2)
        beta = (self.scale * q.flatten(2).mT @ k.flatten(2)).softmax(-1)
        out = (v.flatten(2) @ beta.mT).view(len(x), -1, *x.shape[2:])
        return self.gamma * self.o(out) + x


class LayerNormOfChannels(nn.LayerNorm):
    """A subclass whose forward is another."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Block(nn.Module):
    def __init__(self, pool=True, spectral_norm=parametrizations.spectral_norm):
        super().__init__()
        self.conv = spectral_norm(nn.Conv2d(3, 16, 3, padding=1))
        self.norms = nn.Sequential(nn.GroupNorm(4, 16), nn.BatchNorm2d(16), nn.InstanceNorm2d(16, affine=True))
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.attention = Attention(16, pool, lambda *args, **kw: spectral_norm(nn.Conv2d(*args, **kw)))
        self.channels = LayerNormOfChannels(16)
        self.head = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Flatten(), nn.LayerNorm(16 * 64), spectral_norm(nn.Linear(1024, 1))
        )

    def forward(self, x):
        x = self.norms(self.conv(x))
        x = self.second(self.act(x)) + x  # the shortcut reads what act has changed
        return self.head(self.channels(self.attention(x)))


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def build(**options):
    torch.manual_seed(0)
    model = Block(**options)
    nn.init.constant_(model.attention.gamma, 0.7)
    return model


def step(model, x):
    model.zero_grad()
    x = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    (model(x).square().mean() + g.square().sum()).backward()
    return [p.grad for p in model.parameters()]


def test_numbers_names_and_tensors_stay(x):
    x = x.double()
    theirs = build().double()
    ours = copy.deepcopy(theirs)
    parameters, names = dict(ours.named_parameters()), list(ours.state_dict())
    fastgan.nn.convert(ours)
    assert list(ours.state_dict()) == names
    assert all(parameter is parameters[name] for name, parameter in ours.named_parameters())
    for training in (True, False):
        theirs.train(training), ours.train(training)
        for a, b in zip(step(theirs, x), step(ours, x), strict=True):
            assert (a - b).norm() <= 1e-8 * a.norm() + 1e-11
    ours.load_state_dict(theirs.state_dict())
    assert torch.allclose(ours(x), theirs(x), rtol=1e-9)


def test_the_report_says_what_changed_and_what_was_left():
    model = build()
    report = fastgan.nn.convert(model)
    assert report.changed == {
        "conv": "spectral norm",
        "norms.0": "GroupNorm",
        "norms.1": "BatchNorm2d",
        "norms.2": "InstanceNorm2d",
        "attention": "Attention to SelfAttention2d",
        **{f"attention.{name}": "spectral norm" for name in ("theta", "phi", "g", "o")},
        "head.2": "LayerNorm",
        "head.3": "spectral norm",
    }
    assert set(report.left) == {"act", "channels", "head.0"}
    assert "inplace=True" in report.left["act"] and "subclass" in report.left["channels"]
    assert "changed  norms.0: GroupNorm" in str(report) and "left     act: ReLU(inplace=True)" in str(report)
    assert isinstance(model.attention, fastgan.nn.SelfAttention2d) and type(model.act) is nn.ReLU
    assert any(isinstance(hook.__self__, FusedSpectralNorm) for hook in model._forward_pre_hooks.values())


def test_an_attention_that_computes_something_else_is_left(x):
    model = build(pool=False)
    expected = copy.deepcopy(model).eval()(x)
    report = fastgan.nn.convert(model)
    assert type(model.attention) is Attention and "attention" in report.left
    assert model.attention.gamma.item() == pytest.approx(0.7) and model.attention.training
    assert torch.allclose(model.eval()(x), expected, atol=1e-5)


def test_the_older_spectral_norm_is_converted_too(x):
    theirs = build(spectral_norm=nn.utils.spectral_norm)
    expected = theirs.eval()(x)
    report = fastgan.nn.convert(theirs)
    assert report.changed["head.3"] == "spectral norm"
    assert torch.allclose(theirs(x), expected, atol=1e-5)
    theirs.load_state_dict(theirs.state_dict())


def test_a_second_call_changes_nothing(x):
    model = build()
    fastgan.nn.convert(model)
    expected = copy.deepcopy(model)
    again = fastgan.nn.convert(model)
    assert set(again.changed.values()) <= {"spectral norm"}
    assert torch.equal(model.eval()(x), expected.eval()(x))


@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_small_weights_do_not_hide_another_attention(scale):
    torch.manual_seed(0)
    model = nn.Sequential(Attention(16, scale=scale))
    for projection in model[0].children():
        nn.init.normal_(projection.weight, std=0.01)
    state = torch.get_rng_state()
    report = fastgan.nn.convert(model)
    assert ("0" in report.changed) == (scale == 1.0) and ("0" in report.left) == (scale != 1.0)
    assert torch.equal(torch.get_rng_state(), state)
