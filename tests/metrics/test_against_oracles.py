"""Agreement with the packages that publications use, on random, collapsed, copied and rank-deficient features."""

import contextlib
import io
import warnings

import numpy as np
import ot
import pytest
import torch
from prdc import compute_prdc
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric
from torchmetrics.functional.image import structural_similarity_index_measure
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from fastgan import metrics

TOLERANCE = {"rel": 1e-5, "abs": 1e-5}


pytestmark = pytest.mark.filterwarnings("ignore:Metric .Kernel Inception")


class Flatten(torch.nn.Flatten):
    num_features = 16


def torchmetrics_of(metric, real, fake):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric.set_dtype(torch.float64)
        for features, is_real in ((real, True), (fake, False)):
            metric.update(features.view(len(features), 1, 4, 4), real=is_real)
        return metric.compute()


def test_frechet_distance(sets):
    _, real, fake = sets
    ours = metrics.frechet_distance(real, fake)
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(x) for x in (real, fake)), verbose=False)
    assert ours == pytest.approx(theirs["frechet_inception_distance"], **TOLERANCE)
    theirs = torchmetrics_of(FrechetInceptionDistance(Flatten(), input_img_size=(1, 4, 4), normalize=True), real, fake)
    assert ours == pytest.approx(theirs.item(), **TOLERANCE)


def test_kernel_distance(sets):
    _, real, fake = sets
    ours = metrics.kernel_distance(real, fake, subsets=10, subset_size=100)
    theirs = kid_features_to_metric(
        real, fake, kid_subsets=10, kid_subset_size=100, verbose=False, rng_seed=2020, kid_degree=3
    )
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], **TOLERANCE)
    assert ours.std == pytest.approx(theirs["kernel_inception_distance_std"], **TOLERANCE)
    whole = KernelInceptionDistance(Flatten(), subsets=1, subset_size=len(real), normalize=True)
    theirs = torchmetrics_of(whole, real, fake)[0].item()
    assert metrics.kernel_distance(real, fake, subset_size=None).mean == pytest.approx(theirs, **TOLERANCE)


def test_precision_recall(sets):
    kind, real, fake = sets
    ours = metrics.precision_recall(real, fake, block=150)
    theirs = prc_features_to_metric(fake, real, prc_neighborhood=3, prc_batch_size=10_000, verbose=False)
    assert ours.precision == pytest.approx(theirs["precision"], **TOLERANCE)
    if kind != "collapsed":  # there its products leave copies at distances of 1e-8, on either side of a radius of 0
        assert ours.recall == pytest.approx(theirs["recall"], **TOLERANCE)


def exact_prdc(real, fake, k):
    """PRDC's definition, from differences: copies have distance 0, ties are ties."""
    rr, ff, rf = (
        torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        for a, b in ((real, real), (fake, fake), (real, fake))
    )
    r, f = (d.kthvalue(k + 1, dim=1).values for d in (rr, ff))
    inside = rf < r[:, None]
    return {
        "precision": inside.any(0).double().mean().item(),
        "recall": (rf < f).any(1).double().mean().item(),
        "density": inside.sum(0).double().mean().item() / k,
        "coverage": inside.any(1).double().mean().item(),
    }


def test_precision_recall_density_coverage(sets):
    kind, real, fake = sets
    ours = metrics.precision_recall_density_coverage(real, fake, k=5, block=150)._asdict()
    assert ours == pytest.approx(exact_prdc(real, fake, 5), **TOLERANCE)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = compute_prdc(real.numpy(), fake.numpy(), 5)
    if kind == "copied":  # a copy of the 5th neighbour is a tie, which its two products break at random
        theirs.pop("density")
    if kind == "collapsed":  # likewise the copies' own radius of 0
        theirs.pop("recall")
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, **TOLERANCE), name


def test_inception_score():
    logits = 3 * torch.randn(1003, 7, generator=torch.Generator().manual_seed(0))
    ours, theirs = metrics.inception_score(logits), isc_features_to_metric(logits)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-10)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-8)


@pytest.mark.parametrize("n, m", [(50, 50), (50, 80), (7, 300)])
def test_sliced_wasserstein(n, m):
    x, y = torch.randn(n, 5, dtype=torch.float64), 1 + torch.randn(m, 5, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(5, 40, dtype=torch.float64), dim=0)
    for p in (1, 2):
        theirs = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=directions.numpy(), p=p)
        assert metrics.sliced_wasserstein(x, y, directions=directions, p=p) == pytest.approx(float(theirs), rel=1e-8)


def test_exact_wasserstein(sets):
    _, real, fake = (sets[0], sets[1][:80], sets[2][:80])
    for p in (1, 2):
        cost = np.linalg.norm(real.numpy()[:, None] - fake.numpy()[None], axis=2) ** p
        theirs = ot.emd2([], [], cost) ** (1 / p)
        assert metrics.wasserstein(real, fake, p=p) == pytest.approx(theirs, rel=1e-8)


def test_ms_ssim():
    """From torchmetrics' single scales, cut to where the window fits; its last scale has mirrored borders."""
    source = torch.Generator().manual_seed(0)
    x = torch.rand(3, 3, 192, 180, generator=source, dtype=torch.float64)
    y = (x + 0.2 * torch.rand(x.shape, generator=source, dtype=torch.float64)).clamp(0, 1)
    expected, a, b = 1, x, y
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            a, b = (torch.nn.functional.avg_pool2d(v, 2) for v in (a, b))
        setting = {"data_range": 1.0, "reduction": "none"}
        if scale < 4:
            value = structural_similarity_index_measure(a, b, return_contrast_sensitivity=True, **setting)[1]
        else:
            full = structural_similarity_index_measure(a, b, return_full_image=True, **setting)[1]
            value = full[:, :, 5:-5, 5:-5].mean((1, 2, 3))
        expected = expected * value**weight
    torch.testing.assert_close(metrics.ms_ssim(x, y, data_range=1.0), expected, rtol=1e-8, atol=1e-8)
