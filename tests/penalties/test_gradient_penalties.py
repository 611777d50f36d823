"""Gradient penalties: per sample, known answers, in every mode, refused where they mean nothing."""

import copy

import pytest
import torch
from torch import nn

from fastgan.penalties import DRAGAN, R1, R2, WGANGP

ALL = [WGANGP(2.0, 0.7), WGANGP(2.0, 0.7, one_sided=True), DRAGAN(2.0, c=0.1), DRAGAN(2.0, variant="code"), R1(), R2()]


def batches(size=4, shape=(2, 3, 3), dtype=torch.float64, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(2, size, *shape, dtype=dtype, generator=source)


def smooth_critic(shape=(2, 3, 3), dtype=torch.float64):
    torch.manual_seed(1)
    features = torch.Size(shape).numel()
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 6), nn.Tanh(), nn.Linear(6, 1), nn.Flatten(0)).to(dtype)


def draw(seed=3):
    return torch.Generator().manual_seed(seed)


def points_of(penalty, real, fake):
    """Written again from the definitions, one sample after another."""
    source, shape = draw(), (len(real), 1, 1, 1)
    if isinstance(penalty, R1):
        return list(real)
    if isinstance(penalty, R2):
        return list(fake)
    if isinstance(penalty, WGANGP):
        e = torch.rand(shape, generator=source, dtype=real.dtype)
        return [e[i] * real[i] + (1 - e[i]) * fake[i] for i in range(len(real))]
    if penalty.variant == "paper":
        noise = torch.randn(real.shape, generator=source, dtype=real.dtype)
        return [real[i] + penalty.c**0.5 * noise[i] for i in range(len(real))]
    alpha = torch.rand(shape, generator=source, dtype=real.dtype)
    noise = torch.rand(real.shape, generator=source, dtype=real.dtype)
    spread = (real - real.mean()).square().mean().sqrt()
    return [real[i] + alpha[i] * 0.5 * spread * noise[i] for i in range(len(real))]


def naive(penalty, critic, real, fake):
    total = 0.0
    for point in points_of(penalty, real, fake):
        x = point.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x[None]).sum(), x, create_graph=True)
        norm = gradient.square().sum().sqrt()
        if isinstance(penalty, (R1, R2)):
            total = total + penalty.gamma / 2 * norm**2
        elif isinstance(penalty, DRAGAN):
            total = total + penalty.weight * (norm - penalty.k) ** 2
        else:
            over = norm - penalty.target
            total = total + penalty.weight * (over.clamp_min(0) if penalty.one_sided else over) ** 2
    return total / len(real)


def gradients(value, critic):
    return torch.autograd.grad(value, list(critic.parameters()), allow_unused=True)


@pytest.mark.parametrize("penalty", ALL, ids=repr)
def test_each_equals_a_loop_over_samples(penalty):
    critic, (real, fake) = smooth_critic(), batches()
    ours = penalty(critic, real=real, fake=fake, rng=draw())
    expected = naive(penalty, critic, real, fake)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(ours, critic), gradients(expected, critic), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("batch", [1, 4, 16, 64])
def test_a_linear_critic_has_the_known_penalty_at_every_batch_size(batch):
    w = torch.randn(2, 3, 3, dtype=torch.float64)
    real, fake = batches(batch)
    norm = w.norm()

    def critic(x):
        return (x * w.clone().requires_grad_()).sum((1, 2, 3))

    for penalty, expected in (
        (WGANGP(), 10 * (norm - 1) ** 2),
        (WGANGP(3.0, 0.5), 3 * (norm - 0.5) ** 2),
        (WGANGP(target=1e3, one_sided=True), norm * 0),
        (DRAGAN(k=2.0), 10 * (norm - 2) ** 2),
        (R1(4.0), 2 * norm**2),
        (R2(4.0), 2 * norm**2),
    ):
        value, diagnostics = penalty.measure(critic, real=real, fake=fake)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(diagnostics, {"gradient_norm": norm, "gradient_norm_max": norm})


def test_a_quadratic_critic_has_its_closed_form():
    """D(x) = |x|^2 / 2 has gradient x."""
    real, fake = batches()
    value, diagnostics = R1(1.0).measure(lambda x: x.square().sum((1, 2, 3)) / 2, real=real, fake=fake)
    torch.testing.assert_close(value, real.flatten(1).square().sum(1).mean() / 2)
    norms = real.flatten(1).norm(dim=1)
    torch.testing.assert_close(diagnostics, {"gradient_norm": norms.mean(), "gradient_norm_max": norms.max()})


def test_epsilon_is_drawn_for_each_sample_uniformly():
    penalty, seen = WGANGP(), []
    real, fake = torch.ones(4096, 2, 1, 1), torch.zeros(4096, 2, 1, 1)
    penalty(lambda x: seen.append(x.detach()) or x.sum((1, 2, 3)), real=real, fake=fake)
    x = seen[-1]  # the calls before measured whether samples see each other
    assert torch.equal(x[:, 0], x[:, 1]) and len(x[:, 0].unique()) > 4000
    assert x.min() >= 0 and x.max() <= 1 and abs(x.mean() - 0.5) < 0.02 and abs(x.var() - 1 / 12) < 0.02


def test_draws_follow_the_global_generator_or_the_given_one():
    critic, (real, fake) = smooth_critic(), batches()
    penalty = WGANGP()

    def seeded(seed, **kw):
        torch.manual_seed(seed)
        return penalty(critic, real=real, fake=fake, **kw)

    assert torch.equal(seeded(1), seeded(1)) and not torch.equal(seeded(1), seeded(2))
    assert torch.equal(seeded(1, rng=draw()), seeded(2, rng=draw()))


@pytest.mark.parametrize("penalty", ALL, ids=repr)
def test_frozen_critics_graphs_of_the_input_and_no_grad(penalty):
    critic, (real, fake) = smooth_critic(), batches()
    expected = penalty(critic, real=real, fake=fake, rng=draw())
    leaf = fake.clone().requires_grad_()
    value = penalty(critic, real=real.clone().requires_grad_(), fake=leaf * 1, rng=draw())
    value.backward()
    assert torch.equal(value, expected) and leaf.grad is None
    with torch.no_grad():
        quiet = penalty(critic, real=real, fake=fake, rng=draw())
    assert torch.equal(quiet, expected) and not quiet.requires_grad
    critic.zero_grad(set_to_none=True)
    critic.requires_grad_(False)
    frozen = penalty(critic, real=real, fake=fake, rng=draw())
    frozen.backward()
    assert torch.equal(frozen, expected) and all(p.grad is None for p in critic.parameters())


def test_memory_formats_and_strides_change_nothing():
    critic, (real, fake) = smooth_critic((2, 4, 4)), batches(shape=(2, 4, 4))
    strided = [t.repeat_interleave(2, 3)[..., ::2] for t in (real, fake)]
    last = [t.contiguous(memory_format=torch.channels_last) for t in (real, fake)]
    for penalty in (*ALL[:3], *ALL[4:]):
        expected = penalty(critic, real=real, fake=fake, rng=draw())
        for a, b in (strided, last):
            torch.testing.assert_close(penalty(critic, real=a, fake=b, rng=draw()), expected)
    assert WGANGP().draw(*last).is_contiguous(memory_format=torch.channels_last)


def conv_critic():
    torch.manual_seed(1)
    layers = nn.Conv2d(2, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 8, 3, stride=2), nn.SiLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(8 * 9, 1), nn.Flatten(0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_grad_scaler_give_the_gradient_of_full_precision(dtype):
    # oneDNN's bf16 convolution on processors with AMX gives plain torch a wrong weight gradient at two input channels.
    with torch.backends.mkldnn.flags(enabled=False):
        gradients_under_autocast(dtype)


def gradients_under_autocast(dtype):
    critic, (real, fake) = conv_critic(), batches(8, (2, 8, 8), torch.float32)
    penalty = WGANGP()
    penalty(critic, real=real, fake=fake, rng=draw()).backward()
    exact = [p.grad for p in critic.parameters()]
    for enabled in (False, True):
        half = copy.deepcopy(critic)
        half.zero_grad()
        optimizer = torch.optim.SGD(half.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**13, enabled=enabled)
        with torch.autocast("cpu", dtype):
            value = penalty(half, real=real, fake=fake, rng=draw())
        assert value.dtype == torch.float32
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        for ours, want in zip(half.parameters(), exact, strict=True):
            if want is not None:
                assert (ours.grad - want).norm() <= 0.05 * want.norm() + 1e-6


def test_half_precision_critics_have_a_penalty_in_single_precision():
    critic, (real, fake) = smooth_critic(), batches()
    expected = R1()(critic, real=real, fake=fake)
    value = R1()(critic.bfloat16(), real=real.bfloat16(), fake=fake.bfloat16())
    value.backward()
    assert value.dtype == torch.float32 and abs(value / expected - 1) < 0.05


def test_micro_batches_add_up_to_the_whole():
    critic, (real, fake) = smooth_critic(), batches(8)
    for penalty in (R1(), R2()):
        whole = gradients(penalty(critic, real=real, fake=fake), critic)
        parts = [
            gradients(penalty(critic, real=real[i : i + 2], fake=fake[i : i + 2]) / 4, critic) for i in (0, 2, 4, 6)
        ]
        for i, want in enumerate(whole):
            if want is not None:
                torch.testing.assert_close(sum(part[i] for part in parts), want)


def test_a_critic_that_couples_samples_is_refused_by_the_name_of_the_layer():
    real, fake = batches(shape=(2, 4, 4))
    norm = nn.BatchNorm2d(2)
    critic = nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 1), norm), nn.Flatten(), nn.Linear(32, 1)).double()
    with pytest.raises(ValueError, match=r"R1 .*BatchNorm2d '0\.1' couples"):
        R1()(critic, real=real, fake=fake)
    assert R1(allow_coupled=True)(critic, real=real, fake=fake) > 0
    assert R1()(critic.eval(), real=real, fake=fake) > 0
    norm.couples_samples = True
    with pytest.raises(ValueError, match=r"'0\.1'"):
        WGANGP()(critic, real=real, fake=fake)


@pytest.mark.parametrize(
    "critic",
    [lambda x: torch.ones(len(x)), lambda x: torch.ones(len(x), requires_grad=True), lambda x: x.detach().sum(1)],
)
def test_a_critic_that_ignores_its_input_is_refused(critic):
    with pytest.raises(ValueError, match="critic must depend on its input"):
        R1()(critic, real=torch.ones(2, 3), fake=torch.ones(2, 3))


def test_a_zero_gradient_costs_no_nan():
    w = torch.zeros(3, requires_grad=True)
    value = WGANGP()(lambda x: x @ w, real=torch.ones(2, 3), fake=torch.ones(2, 3))
    value.backward()
    assert value == 10 and torch.equal(w.grad, torch.zeros(3))


def test_bad_arguments_are_named():
    for make, message in (
        (lambda: WGANGP(-1.0), "WGANGP's weight must"),
        (lambda: R1(float("nan")), "R1's gamma must"),
        (lambda: DRAGAN(variant="ours"), "DRAGAN's variant must"),
        (lambda: R2(every=0), "R2's every must"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(ValueError, match="must have the same shape"):
        WGANGP()(smooth_critic(), real=torch.ones(2, 3), fake=torch.ones(3, 3))
