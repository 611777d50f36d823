"""Terms without an input gradient, and the generator's: each against its definition written again."""

import pytest
import torch
from torch import nn

import fastgan
from fastgan.penalties import L1, Consistency, CriticDrift, FeatureMatching, LeCam, OrthogonalRegularization

from fastgan.penalties import PathLength, WeightClip  # isort: skip
from fastgan.augment.flip_shift import flip, shift

REAL, FAKE = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
W = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def linear(x):
    return x @ W


def test_lecam_keeps_moving_averages_in_the_state_it_is_given():
    penalty, state = LeCam(2.0, decay=0.75), LeCam().initial_state()
    a_real, a_fake = linear(REAL).mean(), linear(FAKE).mean()
    for i in range(3):
        real, fake = REAL + i, FAKE * (1 + i)
        if i:
            a_real, a_fake = 0.75 * a_real + linear(real).mean() / 4, 0.75 * a_fake + linear(fake).mean() / 4
        value = penalty(linear, real=real, fake=fake, state=state)
        expected = 2 * ((linear(real) - a_fake).square().mean() + (linear(fake) - a_real).square().mean())
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    assert state["updates"] == 3
    code = LeCam(2.0, variant="code")(linear, real=REAL, fake=FAKE, state=LeCam().initial_state())
    a_real, a_fake = linear(REAL).mean(), linear(FAKE).mean()
    over, under = (linear(REAL) - a_fake).relu(), (a_real - linear(FAKE)).relu()
    torch.testing.assert_close(code.double(), 2 * (over.square().mean() + under.square().mean()), rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match="initial_state"):
        penalty(linear, real=REAL, fake=FAKE)


def test_consistency_compares_each_sample_with_its_changed_self():
    penalty = Consistency(3.0, 5.0, augment=lambda x: x + 1)
    value = penalty(lambda x: linear(x).square(), real=REAL, fake=FAKE)
    real, fake = ((linear(x).square() - linear(x + 1).square()).square().mean() for x in (REAL, FAKE))
    torch.testing.assert_close(value, 3 * real + 5 * fake)
    assert penalty(lambda x: x[:, 0] - x[:, 1], real=REAL, fake=FAKE) < 1e-20
    with pytest.raises(ValueError, match="augment must be a function or one of"):
        Consistency(augment="magic")


def test_named_augmentations_move_each_sample_on_its_own():
    x = torch.arange(64.0).reshape(1, 1, 8, 8).repeat(64, 1, 1, 1)
    mirrored = (flip(x) == x.flip(3)).flatten(1).all(1)
    assert 10 < mirrored.sum() < 54
    moved = shift(x)
    assert moved.shape == x.shape and len(moved[:, 0, 4, 4].unique()) > 20
    assert set(moved.unique().tolist()) <= set(range(64))
    source = torch.Generator().manual_seed(0)
    assert torch.equal(shift(x, source), shift(x, source.manual_seed(0)))


def test_orthogonality_of_filters_by_loops():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 4, 2), fastgan.nn.SNLinear(4, 5), nn.BatchNorm1d(5)
    )
    network.append(nn.Embedding(3, 4))
    rows = [network[0].weight.flatten(1), network[1].weight.transpose(0, 1).flatten(1)]
    rows.append(network[2].parametrizations.weight.original)
    pairs = sum((w[i] @ w[j]) ** 2 for w in rows for i in range(len(w)) for j in range(len(w)) if i != j)
    lengths = sum((w[i] @ w[i] - 1) ** 2 for w in rows for i in range(len(w)))
    x = torch.ones(1, 1)
    torch.testing.assert_close(OrthogonalRegularization(2.0)(network, real=x, fake=x), 2 * pairs)
    torch.testing.assert_close(OrthogonalRegularization(2.0, form="plain").of(network), 2 * (pairs + lengths))
    with pytest.raises(ValueError, match="weights"):
        OrthogonalRegularization()(linear, real=x, fake=x)


def test_orthogonal_regularisation_takes_the_weight_that_weight_norm_computes():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2).double())
    term = OrthogonalRegularization(2.0, form="plain").of(layer)
    torch.testing.assert_close(term, 2 * (layer.weight @ layer.weight.T - torch.eye(2)).square().sum())
    term.backward()
    assert all(p.grad.abs().sum() > 0 for name, p in layer.named_parameters() if name != "bias")


def test_drift():
    torch.testing.assert_close(CriticDrift(0.5)(linear, real=REAL, fake=FAKE), linear(REAL).square().mean() / 2)


def test_weight_clip_bounds_biases_and_gains_too_unless_told_not_to():
    def network():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    everything, weights = WeightClip(0.1).apply_(network()), WeightClip(0.1, weights_only=True).apply_(network())
    assert all(p.abs().max() <= 0.1 for p in everything.parameters())
    assert torch.equal(everything[1].weight, torch.full((4,), 0.1))
    assert weights[0].weight.abs().max() <= 0.1
    assert torch.equal(weights[1].weight, torch.ones(4)) and torch.equal(weights[0].bias, network()[0].bias)
    for wrong in ({"c": 0}, {"when": "during"}):
        with pytest.raises(ValueError, match="WeightClip's"):
            WeightClip(**wrong)


def test_l1_compares_pairs():
    torch.testing.assert_close(L1(2.0)(linear, real=REAL, fake=FAKE), 2 * (REAL - FAKE).abs().mean())
    with pytest.raises(ValueError, match="pairs"):
        L1()(linear, real=REAL, fake=FAKE[:2])
    with pytest.raises(ValueError, match="real=, got None"):
        L1()(linear, fake=FAKE)


def test_feature_matching_takes_the_critics_features_or_any():
    critic = nn.Module()
    critic.features = lambda x: x.square().float()
    fake = FAKE.clone().requires_grad_()
    value = FeatureMatching(2.0)(critic, real=REAL, fake=fake)
    value.backward()
    difference = REAL.square().mean(0) - FAKE.square().mean(0)
    torch.testing.assert_close(value, (2 * difference.square().sum()).float())
    torch.testing.assert_close(fake.grad, -2 * 2 * difference * 2 * FAKE / 4, rtol=1e-5, atol=1e-6)
    several = FeatureMatching(2.0, features=lambda x: [x, x[:, :1]], paired=True)(None, real=REAL, fake=FAKE)
    distance = (REAL - FAKE).abs()
    torch.testing.assert_close(several, 2 * (distance.mean() + distance[:, 0].mean()).float())
    with pytest.raises(ValueError, match="Linear has no callable `features`"):
        FeatureMatching()(nn.Linear(3, 1), real=REAL, fake=FAKE)


def test_path_length_of_a_linear_generator_is_known():
    """G(z) = A z: |A^T y| for y ~ N(0, I), here drawn again."""
    a = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    z, penalty, state = torch.randn(4, 3, dtype=torch.float64), PathLength(2.0, decay=0.5), PathLength().initial_state()
    average = None
    for seed in range(2):
        setting = {"generator": lambda z: z @ a.T, "latents": z, "state": state}
        value, _ = penalty.measure(**setting, rng=torch.Generator().manual_seed(seed))
        y = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        lengths = (y @ a).norm(dim=1)
        average = lengths.detach().mean() if average is None else (average + lengths.detach().mean()) / 2
        expected = 2 * (lengths - average).square().mean()
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            torch.autograd.grad(value, a), torch.autograd.grad(expected, a), rtol=1e-4, atol=1e-5
        )
    leaf = z.clone().requires_grad_()
    fake = leaf @ a.T
    assert penalty(fake=fake, latents=leaf, state=penalty.initial_state()).requires_grad
    with pytest.raises(ValueError, match="initial_state"):
        penalty(fake=fake, latents=leaf)
    with pytest.raises(ValueError, match="fake must depend on latents"):
        penalty(fake=a.sum(1, keepdim=True) * 1, latents=leaf, state=penalty.initial_state())


def test_consistency_by_name_refuses_what_is_not_an_image():
    with pytest.raises(ValueError, match=r"changes images .* these samples have shape \(3,\); give augment a function"):
        Consistency().measure(linear, real=REAL, fake=FAKE)
