"""Metrics by name, as Measurements."""

from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

import torch

from fastgan.metrics.coverage.class_coverage import class_coverage
from fastgan.metrics.coverage.inception_score import inception_score
from fastgan.metrics.coverage.mode_coverage import kl_floor
from fastgan.metrics.coverage.precision_recall import (
    expected_coverage,
    precision_recall,
    precision_recall_density_coverage,
)
from fastgan.metrics.coverage.vendi_score import vendi_score
from fastgan.metrics.distances.frechet_distance import frechet_distance
from fastgan.metrics.distances.kernel_distance import kernel_distance
from fastgan.metrics.features.extractor import Extractor, Features
from fastgan.metrics.features.image_tensor import to_bytes
from fastgan.metrics.images.ms_ssim import ms_ssim_diversity, ms_ssim_name
from fastgan.metrics.images.patch_sliced_wasserstein import patch_sliced_wasserstein
from fastgan.metrics.measurement import Measurement

DEFAULT = ("fid", "kid", "prdc")
ON_IMAGES = ("swd", "ms_ssim")  # what looks at Samples.images, not at features alone


class Samples(NamedTuple):
    """A set of samples (N, ...), None if only the features are kept, and the features, which name their extractor."""

    images: torch.Tensor | None
    features: Features

    @classmethod
    def of(cls, images: torch.Tensor, extractor: Extractor) -> "Samples":
        return cls(images, extractor.features(images))

    def __len__(self) -> int:
        return len(self.features.values)


def names() -> tuple[str, ...]:
    """The names that `measure` takes."""
    return tuple(METRICS)


def check_names(metrics: Iterable[str]) -> None:
    """ValueError for a name that no metric has."""
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ValueError(f"metrics must be among {', '.join(METRICS)}; got {', '.join(unknown)}")


def measure(real: Samples, fake: Samples, metrics: Iterable[str] = DEFAULT) -> list[Measurement]:
    """A list of Measurements: those of each name in `metrics`, in this order.

    real, fake: Samples. Errors: ValueError for an unknown name, features of two extractors, too few samples.
    """
    check_names(metrics)
    if real.features.extractor != fake.features.extractor:
        raise ValueError(
            f"features of different extractors do not compare: {real.features.extractor} and {fake.features.extractor}"
        )
    return [measurement for name in metrics for measurement in METRICS[name](real, fake)]


METRICS: dict = {}


def _metric(function):
    METRICS[function.__name__.strip("_")] = function
    return function


def _about(real, fake):
    return partial(Measurement, extractor=fake.features.extractor, n=len(fake), n_real=len(real))


def _logits(samples, name):
    if samples.features.logits is None:
        raise ValueError(f"{name} needs an extractor with logits; {samples.features.extractor} has none")
    return samples.features.logits


@_metric
def _fid(real, fake):
    width, fewest = fake.features.values.shape[1], min(len(real), len(fake))
    note = "" if fewest > width else f"N = {fewest} is not above the {width} features: singular, biased upwards"
    yield _about(real, fake)("FID", frechet_distance(real.features.values, fake.features.values), note=note)


@_metric
def _kid(real, fake):
    fewest = min(len(real), len(fake))
    size = 1000 if fewest >= 1000 else None
    found = kernel_distance(real.features.values, fake.features.values, subset_size=size)
    note = "" if size else f"N = {fewest} is below the subsets' 1000: one estimate from all samples"
    yield _about(real, fake)("KID", found.mean, std=found.std, note=note)


@_metric
def _is(real, fake):
    found = inception_score(_logits(fake, "is"))
    note = "" if len(fake) >= 10_000 else f"N = {len(fake)}, {len(fake) // 10} a split: biased downwards"
    yield _about(real, fake)("IS", found.mean, std=found.std, note=note)


@_metric
def _pr(real, fake):
    found = precision_recall(real.features.values, fake.features.values)
    for name, value in found._asdict().items():
        yield _about(real, fake)(f"{name}[k=3, <=]", value)


@_metric
def _prdc(real, fake):
    found = precision_recall_density_coverage(real.features.values, fake.features.values)
    notes = {
        "coverage": f"{expected_coverage(len(real), len(fake)):.4f} where fake = real",
        "density": "1 where fake = real",
    }
    for name, value in found._asdict().items():
        yield _about(real, fake)(f"{name}[k=5, <]", value, note=notes.get(name, ""))


@_metric
def _vendi(real, fake):
    own = vendi_score(real.features.values)
    yield _about(real, fake)("Vendi", vendi_score(fake.features.values), note=f"{own:.4g} for the real samples")


@_metric
def _modes(real, fake):
    """The classes that the extractor's logits name."""
    logits = _logits(fake, "modes")
    ours, theirs = (class_coverage(s.features.logits.argmax(1), logits.shape[1]) for s in (fake, real))
    yield _about(real, fake)("modes", float(ours.modes), note=f"of {ours.of}; {theirs.modes} for the real samples")
    note = f"{theirs.reverse_kl:.4f} for the real samples, floor {kl_floor(ours.of, len(fake)):.4f}"
    yield _about(real, fake)("reverse KL", ours.reverse_kl, note=note)


@_metric
def _swd(real, fake):
    count = min(len(real), len(fake))
    pair = (to_bytes(s.images[:count]).float() / 127.5 - 1 for s in (real, fake))
    for side, value in patch_sliced_wasserstein(*pair).items():
        name = "SWD x1e3" if side == "mean" else f"SWD x1e3 @{side}"
        yield Measurement(name, value, None, n=count, n_real=count)


@_metric
def _ms_ssim(real, fake):
    ours, theirs = (ms_ssim_diversity(to_bytes(s.images), data_range=255.0, pairs=2000) for s in (fake, real))
    name = ms_ssim_name(min(fake.images.shape[2:]))
    yield Measurement(name, ours, None, n=len(fake), n_real=len(real), note=f"{theirs:.4f} for the real samples")
