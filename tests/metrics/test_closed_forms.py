"""Values that are known without a computer."""

import math

import pytest
import torch

from fastgan import metrics
from fastgan.metrics import GaussianStatistics


def gaussian(n, d, seed, dtype=torch.float64):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_frechet_distance_of_two_gaussians():
    """With one eigenbasis: |m1 - m2|^2 + sum (sqrt a_i - sqrt b_i)^2; N times a factor, all moments are exact."""
    d = 12
    basis = torch.linalg.qr(gaussian(d, d, 0)).Q
    a, b = torch.linspace(0.1, 3, d).double(), torch.linspace(2, 0.0, d).double()
    m1, m2 = gaussian(2, d, 1)
    first, second = (
        GaussianStatistics.from_moments(m, basis @ torch.diag(v) @ basis.T, 100) for m, v in ((m1, a), (m2, b))
    )
    expected = (m1 - m2).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert metrics.frechet_distance(first, second) == pytest.approx(expected.item(), abs=1e-6)
    assert metrics.frechet_distance(second, first) == pytest.approx(expected.item(), abs=1e-6)
    assert metrics.frechet_distance(first, first) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_unlike_bases():
    """Equal means, covariances A and W A W^T in 2D: 2 tr A - 2 sqrt(tr(AB) + 2 sqrt det(AB))."""
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.7], [0.7, 0]], dtype=torch.float64))
    a = torch.diag(torch.tensor([3.0, 0.5]).double())
    b = turn @ a @ turn.T
    expected = 2 * a.trace() - 2 * ((a @ b).trace() + 2 * a.det()).sqrt()
    mean = torch.zeros(2).double()
    pair = (GaussianStatistics.from_moments(mean, s, 10) for s in (a, b))
    assert metrics.frechet_distance(*pair) == pytest.approx(expected.item(), abs=1e-10)


def test_a_shift_far_from_zero_costs_no_digits():
    x = gaussian(500, 8, 0)
    shifted = metrics.frechet_distance(x + 1e6, x + 1e6 + 1)
    assert shifted == pytest.approx(8, abs=1e-6)


def test_fewer_samples_than_features_and_a_constant_set():
    x, constant = gaussian(20, 64, 0), torch.ones(20, 64).double()
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    s = GaussianStatistics.of(x)
    expected = (s.mean - 1).square().sum() + s.covariance.trace()
    for pair in ((x, constant), (constant, x)):
        assert metrics.frechet_distance(*pair) == pytest.approx(expected.item(), rel=1e-10)
    assert metrics.frechet_distance(constant, constant) == 0


def test_kernel_distance_is_zero_on_average_where_the_sets_are_equal_in_distribution():
    values = torch.tensor(
        [
            metrics.kernel_distance(gaussian(100, 8, s), gaussian(100, 8, 10_000 + s), subset_size=None).mean
            for s in range(200)
        ]
    )
    assert values.mean().abs() < 3 * values.std() / len(values) ** 0.5
    assert (values < 0).any()


def test_inception_score_is_between_one_and_the_number_of_classes():
    sure = 1e4 * torch.eye(7).repeat(10, 1)
    assert metrics.inception_score(sure, splits=1).mean == pytest.approx(7)
    assert metrics.inception_score(torch.zeros(70, 7)).mean == pytest.approx(1)
    assert metrics.inception_score(sure[:1].repeat(70, 1)).mean == pytest.approx(1)


def test_coverage_and_density_where_real_and_fake_are_one_distribution():
    assert metrics.expected_coverage(10_000, 10_000, 5) == pytest.approx(0.9688, abs=1e-4)
    n, m, runs = 200, 300, 30
    found = [metrics.precision_recall_density_coverage(gaussian(n, 4, s), gaussian(m, 4, 999 + s)) for s in range(runs)]
    coverage, density = (torch.tensor([getattr(f, name) for f in found]) for name in ("coverage", "density"))
    expected = metrics.expected_coverage(n, m, 5)
    assert abs(coverage.mean() - expected) < 3 * coverage.std() / runs**0.5
    assert abs(density.mean() - 1) < 3 * density.std() / runs**0.5


def test_published_draw_in_small():
    """N(0, I_1000): precision and recall near .47, density 1, coverage .97 at N = 10,000; here they stay alike."""
    found = metrics.precision_recall_density_coverage(*(gaussian(1000, 100, s, torch.float32) for s in (0, 1)))
    assert found.density == pytest.approx(1, abs=0.15)
    assert found.coverage == pytest.approx(metrics.expected_coverage(1000, 1000), abs=0.03)
    assert found.precision == pytest.approx(found.recall, abs=0.1)


def test_conventions_differ_where_samples_coincide():
    real = gaussian(50, 3, 0)
    collapsed = real[:1].repeat(50, 1)
    assert metrics.precision_recall(real, collapsed) == (1.0, 1 / 50)
    strict = metrics.precision_recall_density_coverage(real, collapsed, k=3)
    assert strict.precision == 1 and strict.recall == 0
    assert metrics.precision_recall(real, real) == (1, 1)
    assert metrics.precision_recall_density_coverage(real, real, k=3) == (1, 1, 1, 1)


def test_results_do_not_depend_on_the_block():
    real, fake = gaussian(300, 6, 0), gaussian(200, 6, 1)
    fake[:50] = real[:50]
    whole = metrics.precision_recall_density_coverage(real, fake)
    assert all(metrics.precision_recall_density_coverage(real, fake, block=b) == whole for b in (17, 64, 257))


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_neighbours_do_not_depend_on_the_unit(scale):
    real, fake = gaussian(60, 6, 0), gaussian(60, 6, 1)
    assert metrics.precision_recall(real * scale, fake * scale) == metrics.precision_recall(real, fake)


def ring(k=8):
    angles = 2 * math.pi * torch.arange(k).double() / k
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_high_quality_ceiling_and_kl_floor():
    n, std = 200_000, 0.01
    source = torch.Generator().manual_seed(0)
    mode = torch.randint(8, (n,), generator=source)
    samples = ring()[mode] + std * torch.randn(n, 2, generator=source, dtype=torch.float64)
    ball, box = (metrics.mode_coverage(samples, ring(), std, rule=rule) for rule in ("ball", "box"))
    assert ball.high_quality == pytest.approx(1 - math.exp(-4.5), abs=1e-3)  # 98.89 %
    assert box.high_quality == pytest.approx(math.erf(3 / math.sqrt(2)) ** 2, abs=1e-3)  # 99.46 %
    assert ball.modes == ball.of == 8
    floors = [
        metrics.reverse_kl(torch.bincount(torch.randint(25, (2500,), generator=source), minlength=25))
        for _ in range(200)
    ]
    assert sum(floors) / 200 == pytest.approx(metrics.kl_floor(25, 2500), rel=0.1)


def test_modes_collapse_and_junk():
    means = ring()
    collapsed = means[:2].repeat(50, 1)
    found = metrics.mode_coverage(collapsed, means, 0.01)
    assert (found.modes, found.high_quality) == (2, 1.0)
    assert found.reverse_kl == found.reverse_kl_all == pytest.approx(math.log(4))
    far = torch.full((10, 2), -5.0)
    junk = metrics.mode_coverage(far, means, 0.01)
    assert (junk.modes, junk.high_quality) == (0, 0.0) and math.isnan(junk.reverse_kl)
    mixed = metrics.mode_coverage(torch.cat([collapsed, far.double()]), means, 0.01)
    assert mixed.reverse_kl == pytest.approx(math.log(4)) and mixed.reverse_kl_all < mixed.reverse_kl
    border = means[:1] + torch.tensor([[0.025, 0.025]])  # 2.5 deviations in each coordinate, 3.5 in all
    assert metrics.mode_coverage(border, means, 0.01).modes == 0
    assert metrics.mode_coverage(border, means, 0.01, rule="box").modes == 1


def test_stacked_labels_are_digits_of_a_number():
    labels = torch.tensor([[3, 0, 9], [1, 2, 3]])
    images = labels[:, :, None, None].float().expand(-1, -1, 2, 2)
    classify = lambda x: torch.nn.functional.one_hot(x[:, 0, 0, 0].long(), 10).float()  # noqa: E731
    assert metrics.stacked_labels(classify, images, batch=1).tolist() == [309, 123]
    found = metrics.class_coverage(torch.tensor([309, 123]), 1000)
    assert (found.modes, found.of) == (2, 1000) and found.reverse_kl == pytest.approx(math.log(500))


def test_vendi_score_counts_what_is_different():
    rows = torch.eye(6).repeat(10, 1)
    assert metrics.vendi_score(rows) == pytest.approx(6)
    assert metrics.vendi_score(rows[:3]) == pytest.approx(3)  # fewer samples than features: the other matrix
    assert metrics.vendi_score(rows[:1].repeat(9, 1)) == pytest.approx(1)


def test_wasserstein_of_a_shift_is_its_length():
    x = gaussian(60, 3, 0)
    shift = torch.tensor([3.0, 0, 4]).double()
    assert metrics.wasserstein(x, (x + shift)[torch.randperm(60)]) == pytest.approx(5)
    assert metrics.wasserstein(x[:, :1], x[:, :1] + 2) == pytest.approx(2)
    assert metrics.sliced_wasserstein(x[:, :1], x[:, :1] + 2) == pytest.approx(2)


def test_perceptual_path_length_of_a_line():
    """G(z) = a z, d = |x - y|^2: a^2 |z1 - z0|^2, whatever t."""
    ends = gaussian(2, 4, 0)
    found = metrics.perceptual_path_length(
        lambda z: 3 * z, lambda x, y: (x - y).square().sum(1), ends.repeat_interleave(20, 0), discard=(0, 1)
    )
    assert found.mean == pytest.approx(9 * (ends[1] - ends[0]).square().sum().item(), rel=1e-6) and found.kept == 20
    ends = torch.tensor([[2.0, 0], [0, 5.0]]).double()
    found = metrics.perceptual_path_length(
        lambda z: z, lambda x, y: (x - y).square().sum(1), ends.repeat_interleave(20, 0), interpolation="slerp"
    )
    assert found.mean == pytest.approx((math.pi / 2) ** 2, rel=1e-4)  # along a quarter of the unit circle


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: metrics.frechet_distance(x[:1], x), "real must hold at least 2 samples"),
        (lambda x: metrics.frechet_distance(x, x[:, :2]), "equally many features, got 3 and 2"),
        (lambda x: metrics.frechet_distance(x / 0, x), "real must be finite"),
        (lambda x: metrics.kernel_distance(x, x), "subset_size must be at most the number of samples, got 1000 for 4"),
        (lambda x: metrics.inception_score(x), "logits must hold at least 10 samples"),
        (lambda x: metrics.precision_recall_density_coverage(x, x), r"k must be from 1 to .*\(4\), got 5"),
        (lambda x: metrics.wasserstein(x, x[:2]), "equally many samples"),
        (lambda x: metrics.mode_coverage(x, x[:, :2], 1), "equal width, got 3 and 2"),
        (lambda x: metrics.mode_coverage(x, x, 0), "std must be above 0"),
        (lambda x: metrics.mode_coverage(x, x, 1, rule="star"), "rule must be one of ball, box"),
        (lambda x: metrics.vendi_score(0 * x), "no row of zeros"),
    ],
)
def test_too_few_samples_and_bad_input_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call(torch.arange(12.0).view(4, 3) + 1)
    with pytest.raises(TypeError, match=r"real must be a floating-point tensor \(N, D\), got torch.int64"):
        metrics.frechet_distance(torch.ones(3, 3, dtype=torch.int64), torch.ones(3, 3))


def test_memory_is_bounded_by_the_block():
    n, block = 2000, 100
    real, fake = gaussian(n, 4, 0), gaussian(n, 4, 1)
    for call in (
        lambda: metrics.precision_recall_density_coverage(real, fake, block=block),
        lambda: metrics.kernel_distance(real, fake, subset_size=None),
    ):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            call()
        live = peak = 0
        for event in profile.profiler.kineto_results.events():
            if event.name() == "[memory]":
                live += event.nbytes()
                peak = max(peak, live)
        assert 0 < peak < 8 * n * n / 3  # a matrix of all pairs would take 8 n^2
