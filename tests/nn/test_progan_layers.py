import math

import pytest
import torch
import torch.nn.functional as F

from fastgan import nn as fnn
from fastgan.nn.couples_samples import couples_samples


def double(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=torch.float64)


def stddev(x, group=4):
    """The number of each sample."""
    y = fnn.MinibatchStdDev(group)(x)
    assert torch.equal(y[:, :-1], x)
    number = y[:, -1].reshape(len(x), -1)
    assert (number == number[:, :1]).all()  # a scalar, not a map
    return number[:, 0]


def test_minibatch_stddev_is_that_of_strided_groups():
    x = double(8, 3, 4, 5)
    got = stddev(x)
    for first in (0, 1):  # samples 0 2 4 6, and 1 3 5 7
        expected = (x[first::2].var(0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(got[first::2], expected.expand(4))


def test_minibatch_stddev_sees_a_group_as_a_set():
    x = double(8, 3, 2, 2)
    torch.testing.assert_close(stddev(x[[4, 1, 6, 7, 2, 5, 0, 3]]), stddev(x))  # within the evens, within the odds
    assert not torch.allclose(stddev(x[[1, 0, 2, 3, 4, 5, 6, 7]]), stddev(x))


@pytest.mark.parametrize("shape", [(8, 3, 4, 4), (8, 3)])
def test_minibatch_stddev_of_a_collapsed_batch_is_sqrt_eps(shape):
    x = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    number = stddev(x)
    torch.testing.assert_close(number, torch.full_like(number, 1e-4))
    (slope,) = torch.autograd.grad(number.sum(), x, create_graph=True)
    (curve,) = torch.autograd.grad(slope.square().sum() + slope.sum(), x)
    assert slope.isfinite().all() and curve.isfinite().all()


@pytest.mark.parametrize("batch, group", [(6, 3), (7, 1), (4, 4), (2, 2), (10, 2)])
def test_minibatch_stddev_takes_the_largest_group_that_divides(batch, group):
    torch.testing.assert_close(stddev(double(batch, 2, 2, 2)), stddev(double(batch, 2, 2, 2), group))


def test_minibatch_stddev_says_that_it_couples_samples():
    assert fnn.MinibatchStdDev().couples_samples
    x = double(4, 2, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(fnn.MinibatchStdDev(2), x)
    assert torch.autograd.gradgradcheck(fnn.MinibatchStdDev(2), x)


def test_pixel_norm():
    x = double(3, 5, 2, 2).requires_grad_()
    norm = fnn.PixelNorm()
    torch.testing.assert_close(norm(x), x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt())
    torch.testing.assert_close(norm(x).square().mean(1), torch.ones(3, 2, 2, dtype=torch.float64))
    assert torch.autograd.gradcheck(norm, x) and torch.autograd.gradgradcheck(norm, x)
    large = torch.full((1, 2), 6e4, dtype=torch.float16)
    assert torch.equal(norm(large), torch.ones(1, 2, dtype=torch.float16))
    assert not norm(torch.zeros(1, 4)).any()


@pytest.mark.parametrize("multiplier", [1.0, 0.01])
def test_an_equalised_layer_is_a_plain_layer_with_scaled_weights(multiplier):
    torch.manual_seed(0)
    conv = fnn.EqualizedConv2d(6, 8, 3, padding=1, stride=2, groups=2, lr_multiplier=multiplier).double()
    linear = fnn.EqualizedLinear(200, 300, gain=1.0, lr_multiplier=multiplier).double()
    with torch.no_grad():
        conv.bias.normal_(), linear.bias.normal_()
    x, v = double(2, 6, 8, 8), double(2, 200)
    weight = conv.weight * (math.sqrt(2 / (3 * 9)) * multiplier)
    torch.testing.assert_close(conv(x), F.conv2d(x, weight, conv.bias * multiplier, 2, 1, groups=2))
    weight = linear.weight * (multiplier / math.sqrt(200))
    torch.testing.assert_close(linear(v), F.linear(v, weight, linear.bias * multiplier))
    assert linear.weight.std().item() == pytest.approx(1 / multiplier, rel=0.02)


def test_equalised_layers_keep_the_variance():
    torch.manual_seed(0)
    x = torch.randn(4000, 64)
    assert fnn.EqualizedLinear(64, 64, gain=1)(x).var().item() == pytest.approx(1, rel=0.1)
    assert F.relu(fnn.EqualizedLinear(64, 64)(x)).square().mean().item() == pytest.approx(1, rel=0.1)


def test_adam_moves_equalised_layers_at_one_relative_speed():
    """The output changes by lr * gain * sqrt(fan_in), whatever the scale of the initial weights: here equal layers."""
    changes = []
    for multiplier in (1.0, 0.1):
        torch.manual_seed(0)
        layer = fnn.EqualizedLinear(16, 1, lr_multiplier=multiplier)
        before = layer(torch.ones(1, 16))
        optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)
        before.backward()
        optimizer.step()
        changes.append((layer(torch.ones(1, 16)) - before).item())
    assert changes[1] / changes[0] == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_pack_joins_consecutive_samples(m):
    seen = []
    critic = fnn.Pack(lambda_module(seen), m)
    x, labels, source = double(6, 2, 4, 4), torch.arange(6), double(6, 1, 4, 4)
    critic(x)
    critic(x, labels)
    critic(x, source)
    packed = torch.stack([torch.cat(list(part)) for part in x.split(m)])
    assert all(torch.equal(images, packed) for images, _ in seen)
    assert torch.equal(seen[1][1], labels if m == 1 else labels.view(-1, m))
    assert seen[2][1].shape == (6 // m, m, 4, 4)
    critic(double(6, 5))
    assert seen[3][0].shape == (6 // m, m * 5)
    assert couples_samples(critic) == (m > 1)


def lambda_module(seen):
    class Module(torch.nn.Module):
        def forward(self, x, condition=None):
            seen.append((x, condition))
            return x.flatten(1).sum(1)

    return Module()


def test_bad_settings_and_batches_are_refused():
    with pytest.raises(ValueError, match="the batch must be a multiple of m=4, got 6 samples"):
        fnn.Pack(torch.nn.Identity(), 4)(double(6, 2))
    with pytest.raises(ValueError, match="m must be an integer of at least 1, got 0"):
        fnn.Pack(torch.nn.Identity(), 0)
    with pytest.raises(ValueError, match="group_size must be"):
        fnn.MinibatchStdDev(0)
    with pytest.raises(ValueError, match=r"x must have shape .* got \(3,\)"):
        fnn.MinibatchStdDev()(double(3))
    with pytest.raises(ValueError, match="lr_multiplier must be positive, got 0"):
        fnn.EqualizedLinear(2, 2, lr_multiplier=0)
