"""The number that a run is stopped by sees structure in images."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from fastgan import data
from fastgan.metrics import Extractor, kernel_distance
from fastgan.monitor import Quality, pooled
from fastgan.monitor.quality import small


def photographs():
    """Garments as red, green and blue of one image: colour, edges and texture."""
    garments = data.fashion_mnist(32)
    order = torch.randperm(len(garments), generator=torch.Generator().manual_seed(0))[:3072]
    return garments.batch(order)[0].view(1024, 3, 32, 32)


def noisy(images, amount):
    return (images + amount * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)


@pytest.fixture(scope="module")
def halves():
    return photographs()[:512].chunk(2)


def test_real_samples_are_within_the_noise_and_blurs_are_far(halves):
    quality, fresh = Quality(*halves, source=torch.Generator().manual_seed(0)), photographs()[512:768]
    blurred = interpolate(avg_pool2d(fresh, 4), scale_factor=4.0, mode="bilinear")
    assert abs(quality.distance(fresh)) < 4 * quality.noise
    assert quality.distance(blurred) > 20 * quality.noise
    on_fields = [
        kernel_distance(*(pooled(x).flatten(1) for x in (halves[0], y)), subset_size=None).mean
        for y in (blurred, noisy(fresh, 0.5))
    ]
    assert on_fields[0] < on_fields[1] < quality.distance(blurred)  # what averages over 8 x 8 fields cannot see


@pytest.mark.parametrize(
    "worse",
    [
        lambda x, much: interpolate(avg_pool2d(x, much), scale_factor=float(much), mode="nearest"),
        lambda x, much: noisy(x, 0.1 * much),
        lambda x, much: x[: len(x) // 16 // much].repeat(16 * much, 1, 1, 1),
    ],
)
def test_what_is_worse_is_farther(halves, worse):
    quality, fresh = Quality(*halves, source=torch.Generator().manual_seed(0)), photographs()[512:768]
    distances = [quality.distance(worse(fresh, much)) for much in (2, 4)]
    assert 4 * quality.noise < distances[0] < distances[1]


def test_large_images_are_halved_and_other_samples_are_left_alone():
    assert small(torch.zeros(2, 3, 256, 128)).shape == (2, 3, 64, 32)
    assert small(torch.zeros(2, 2)).shape == (2, 2)


def test_features_may_be_the_callers_own(halves):
    own = Quality(*halves, lambda x: x.mean((2, 3)), torch.Generator().manual_seed(0))
    assert own.real.shape == (256, 3) and own.distance(-halves[0]) > 4 * own.noise
    named = Quality(*halves, Extractor(torch.nn.Flatten(), "pixels", channels=1, resolution=8))
    assert named.real.shape == (256, 64) and named.distance(3 * halves[0]) > 4 * named.noise
