import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan import losses

# Written out again, as the papers write them: on probabilities where those say so.
PAPERS = {
    "minimax": (
        lambda r, f: -(torch.log(torch.sigmoid(r)).mean() + torch.log(1 - torch.sigmoid(f)).mean()),
        lambda f, r: torch.log(1 - torch.sigmoid(f)).mean(),
    ),
    "non_saturating": (
        lambda r, f: -(torch.log(torch.sigmoid(r)).mean() + torch.log(1 - torch.sigmoid(f)).mean()),
        lambda f, r: -torch.log(torch.sigmoid(f)).mean(),
    ),
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda f, r: -f.mean()),
    "least_squares": (
        lambda r, f: 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f**2).mean(),
        lambda f, r: 0.5 * ((f - 1) ** 2).mean(),
    ),
    "least_squares_pearson": (
        lambda r, f: 0.5 * ((r - 1) ** 2).mean() + 0.5 * ((f + 1) ** 2).mean(),
        lambda f, r: 0.5 * (f**2).mean(),
    ),
    "hinge": (
        lambda r, f: torch.clamp(1 - r, min=0).mean() + torch.clamp(1 + f, min=0).mean(),
        lambda f, r: -f.mean(),
    ),
    "relativistic": (
        lambda r, f: -torch.log(torch.sigmoid(r - f)).mean(),
        lambda f, r: -torch.log(torch.sigmoid(f - r)).mean(),
    ),
    "relativistic_paired": (
        lambda r, f: torch.log(1 + torch.exp(-(r - f))).mean(),
        lambda f, r: torch.log(1 + torch.exp(-(f - r))).mean(),
    ),
    "relativistic_average": (
        lambda r, f: (
            -torch.log(torch.sigmoid(r - f.mean())).mean() / 2 - torch.log(1 - torch.sigmoid(f - r.mean())).mean() / 2
        ),
        lambda f, r: (
            -torch.log(torch.sigmoid(f - r.mean())).mean() / 2 - torch.log(1 - torch.sigmoid(r - f.mean())).mean() / 2
        ),
    ),
    "relativistic_average_least_squares": (
        lambda r, f: (((r - f.mean() - 1) ** 2).mean() + ((f - r.mean() + 1) ** 2).mean()) / 2,
        lambda f, r: (((f - r.mean() - 1) ** 2).mean() + ((r - f.mean() + 1) ** 2).mean()) / 2,
    ),
    "relativistic_average_hinge": (
        lambda r, f: (
            torch.clamp(1 - (r - f.mean()), min=0).mean() / 2 + torch.clamp(1 + (f - r.mean()), min=0).mean() / 2
        ),
        lambda f, r: (
            torch.clamp(1 - (f - r.mean()), min=0).mean() / 2 + torch.clamp(1 + (r - f.mean()), min=0).mean() / 2
        ),
    ),
}
RELATIVISTIC = tuple(name for name in PAPERS if name.startswith("relativistic"))
LOGITS = st.lists(st.tuples(st.floats(-6, 6), st.floats(-6, 6)), min_size=1, max_size=6)


def test_every_loss_is_checked_here():
    assert set(losses.names()) == set(PAPERS)


@pytest.mark.parametrize("name", PAPERS)
@given(LOGITS)
@settings(deadline=None, max_examples=30)
def test_values_and_gradients_are_those_of_the_paper(name, logits):
    loss, (discriminator, generator) = losses.get(name), PAPERS[name]
    real, fake = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in zip(*logits, strict=True))
    for ours, theirs in (
        (loss.discriminator(real, fake), discriminator(real, fake)),
        (loss.generator(fake, real), generator(fake, real)),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
        got, expected = (torch.autograd.grad(x, (real, fake), allow_unused=True) for x in (ours, theirs))
        for g, e in zip(got, expected, strict=True):
            assert (g is None) == (e is None)
            if g is not None:
                torch.testing.assert_close(g, e, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", losses.names())
def test_second_derivatives(name):
    loss = losses.get(name)
    torch.manual_seed(0)
    real, fake = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    for function in (loss.discriminator, lambda r, f: loss.generator(f, r)):
        assert torch.autograd.gradcheck(function, (real, fake))
        assert torch.autograd.gradgradcheck(function, (real, fake))


@pytest.mark.parametrize("name", losses.names())
def test_the_relativistic_ones_alone_see_no_constant(name):
    loss = losses.get(name)
    torch.manual_seed(0)
    real, fake = torch.randn(2, 6, 1, 2, 2, dtype=torch.float64)  # logits of patches
    changes = [
        (function(real + 3, fake + 3) - function(real, fake)).abs().item()
        for function in (loss.discriminator, lambda r, f: loss.generator(f, r))
    ]
    blind = {"wasserstein": (True, False)}.get(name, (name in RELATIVISTIC,) * 2)
    assert tuple(change < 1e-12 for change in changes) == blind


def test_what_a_loss_says_about_itself():
    for name in losses.names():
        loss = losses.get(name)
        assert loss.generator_needs_real == (name in RELATIVISTIC)
        assert loss.pairs_samples == (name in ("relativistic", "relativistic_paired"))
        assert loss.couples_batch == name.startswith("relativistic_average")
        if not (loss.pairs_samples or loss.couples_batch):  # then micro-batches may be averaged
            real, fake = torch.arange(6.0), torch.arange(3.0, 9.0)
            parts = [loss.discriminator(r, f) for r, f in zip(real.split(2), fake.split(2), strict=True)]
            torch.testing.assert_close(torch.stack(parts).mean(), loss.discriminator(real, fake))


@pytest.mark.parametrize("name", RELATIVISTIC)
def test_batches_of_unequal_size(name):
    loss, real, fake = losses.get(name), torch.randn(4), torch.randn(3)
    if not loss.pairs_samples:
        assert loss.discriminator(real, fake).isfinite() and loss.generator(fake, real).isfinite()
        return
    with pytest.raises(ValueError, match=rf"{name} pairs samples: .* got \(4,\) and \(3,\)"):
        loss.discriminator(real, fake)
    with pytest.raises(ValueError, match="pairs samples"):
        loss.discriminator(torch.randn(4), torch.randn(4, 1))


@pytest.mark.parametrize("name", RELATIVISTIC)
def test_a_generator_that_compares_needs_the_real_logits(name):
    with pytest.raises(ValueError, match=f"real_logits must be given: the generator's {name} loss"):
        losses.get(name).generator(torch.randn(3))


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_logits_are_finite_with_their_gradients(name, size):
    loss = losses.get(name)
    real = torch.tensor([size, -size], requires_grad=True)
    fake = torch.tensor([-size, size], requires_grad=True)
    for value in (loss.discriminator(real, fake), loss.generator(fake, real)):
        assert value.isfinite()
        for gradient in torch.autograd.grad(value, (real, fake), allow_unused=True):
            assert gradient is None or gradient.isfinite().all()


def test_a_sure_critic_stops_the_saturating_generator_alone():
    fake = torch.tensor([-50.0], requires_grad=True)
    real = -fake.detach()
    slope = {n: torch.autograd.grad(losses.get(n).generator(fake, real), fake)[0].abs().item() for n in losses.names()}
    assert slope["minimax"] < 1e-12
    assert slope["non_saturating"] == slope["hinge"] == slope["wasserstein"] == slope["relativistic"] == 1


def test_known_values_at_zero_logits():
    zero = torch.zeros(4, 1)
    values = {n: losses.get(n).discriminator(zero, zero).item() for n in losses.names()}
    assert values["minimax"] == pytest.approx(2 * math.log(2))
    assert (values["hinge"], values["wasserstein"], values["least_squares"]) == (2, 0, 0.5)


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_single(name, dtype):
    logits = torch.linspace(-300, 300, 1001, dtype=dtype)
    loss = losses.get(name)
    expected = loss.discriminator(logits.double(), logits.double())
    value = loss.discriminator(logits, logits)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)


def test_bad_names_and_logits_are_refused():
    with pytest.raises(ValueError, match=r"loss must be one of minimax, .*; got 'hingo'"):
        losses.get("hingo")
    hinge = losses.get("hinge")
    with pytest.raises(TypeError, match=r"fake_logits must be a floating-point tensor, got torch.int64"):
        hinge.generator(torch.tensor([1]))
    with pytest.raises(TypeError, match=r"real_logits must be .* got list"):
        hinge.discriminator([1.0], torch.ones(1))
    with pytest.raises(ValueError, match=r"fake_logits must not be empty, got shape \(0, 1\)"):
        hinge.discriminator(torch.ones(1), torch.ones(0, 1))
