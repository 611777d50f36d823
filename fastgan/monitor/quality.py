"""How far generated samples are from real ones, as a number that a run can be stopped by."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import avg_pool2d

from fastgan.metrics.distances.kernel_distance import kernel_distance
from fastgan.metrics.features.structure import Structure

LARGEST = 64  # pixels a side: larger images are halved until they fit
HALVES = 20
BATCH = 128


class Quality:
    """The unbiased squared MMD under KID's kernel, on features that are standardised by those of the real samples.

    real, held_out: disjoint sets of one size (n, ...). features: samples -> (B, D), or an Extractor; by default
    Structure for images, and the samples themselves for vectors. noise: the standard deviation of the distance between
    two sets of real samples.
    source: the torch.Generator that draws those sets.
    """

    def __init__(
        self,
        real: torch.Tensor,
        held_out: torch.Tensor,
        features: Callable[[torch.Tensor], Any] | None = None,
        source: torch.Generator | None = None,
    ) -> None:
        self.features = features or (Structure().to(real.device) if real.ndim == 4 else lambda x: x.flatten(1).float())
        both = self._of(torch.cat([real, held_out]))
        self.mean, deviation = both.mean(0), both.std(0)
        self.deviation = deviation.clamp_min(1e-3 * deviation.max()).clamp_min(1e-12)
        both = (both - self.mean) / self.deviation
        self.real = both[: len(real)]
        orders = (torch.randperm(len(both), generator=source).to(both.device) for _ in range(HALVES))
        halves = [kernel_distance(*both[order].chunk(2), subset_size=None).mean for order in orders]
        self.noise = torch.tensor(halves).std().item()

    def distance(self, fake: torch.Tensor) -> float:
        """Of samples (m, ...) of the real ones' shape, a float; 0 is the expectation for samples of the real
        distribution."""
        return kernel_distance(self.real, (self._of(fake) - self.mean) / self.deviation, subset_size=None).mean

    @torch.no_grad()
    def _of(self, samples):
        samples = samples.float().clamp(-1, 1) if samples.ndim == 4 else samples.float()  # as they would be saved
        found = [self.features(batch) for batch in samples.split(BATCH)]
        return torch.cat([f[0] if isinstance(f, tuple) else f for f in found])


def small(images: torch.Tensor) -> torch.Tensor:
    """Images (N, C, H, W) halved until no side is above 64 pixels; other samples as they are."""
    while images.ndim == 4 and max(images.shape[2:]) > LARGEST:
        images = avg_pool2d(images, 2)
    return images
