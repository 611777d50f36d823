"""What a look at a generator in training sees, as plain numbers: generated samples against a fixed set of real ones."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fastgan.metrics.coverage.precision_recall import expected_coverage, precision_recall_density_coverage

SIDE = 8  # images are averaged down to so many pixels a side
NEIGHBOURS = 5
PER_CLASS = 8  # samples a class is due at the least: with fewer, one is missed by chance
ABSENT = 0.1  # of the samples it is due: a class with fewer is missing
SUBSETS = 20


class Reference:
    """Real samples in the cheap space, and what samples of the same distribution would score against them.

    real, held_out: disjoint sets of one size n, (n, ...) as `pooled` returns them; labels: (n,) int64 of
    `real`, or None; classes: how many there are. source: the torch.Generator that draws the subsets of the noise band.
    """

    def __init__(
        self,
        real: torch.Tensor,
        held_out: torch.Tensor,
        labels: torch.Tensor | None = None,
        classes: int = 0,
        source: torch.Generator | None = None,
    ) -> None:
        self.real, self.spread = real.flatten(1), _spread(torch.cat([real, held_out]).flatten(1))
        self.coverage = expected_coverage(len(real), len(held_out), NEIGHBOURS)
        both = torch.cat([real, held_out]).flatten(1)
        subsets = (torch.randperm(len(both), generator=source)[: len(real)] for _ in range(SUBSETS))
        ratios = torch.stack([_spread(both[subset.to(both.device)]) for subset in subsets]) / self.spread
        # Subsets of half the set vary less than fresh samples do, by sqrt(1 - 1/2).
        self.lowest_diversity = 1 - 4 * ratios.std().item() * 2**0.5
        self.labels: Any = None
        self.due: torch.Tensor | None = None
        if labels is not None and classes and len(real) >= PER_CLASS * classes:
            self.labels, self.classes = labels, classes
            self.due = self.classes_of(held_out.flatten(1))  # with the mistakes that nearest neighbours make

    def classes_of(self, samples: torch.Tensor) -> torch.Tensor:
        """Samples of each class, (classes,): each sample has that of its nearest real one."""
        return torch.bincount(self.labels[torch.cdist(samples, self.real).argmin(1)], minlength=self.classes)


class Modes:
    """Modes of a mixture in the plane: means (K, D), of which `count` samples are due in equal shares.

    A sample belongs to its nearest mode if it lies within three deviations of the mode, or within a quarter of the
    distance to the next mode if that is more: a generator that is not sharp yet misses none.
    """

    def __init__(self, means: torch.Tensor, sigma: float, count: int) -> None:
        apart = torch.cdist(means, means).fill_diagonal_(float("inf")).amin(1)
        self.means, self.radius, self.due = means, (apart / 4).clamp_min(3 * sigma), count / len(means)

    @classmethod
    def of(cls, data: Any, count: int) -> "Modes | None":
        """The modes of a toy; None for data without modes, or if each mode is due too few samples."""
        means = getattr(data, "modes", None)
        return None if means is None or count < PER_CLASS * len(means) else cls(means, data.sigma, count)

    def missing(self, samples: torch.Tensor) -> list[int]:
        """The numbers of the modes with less than a tenth of the samples that are due, a list."""
        distance, nearest = torch.cdist(samples, self.means.to(samples.device)).min(1)
        there = nearest[distance < self.radius.to(samples.device)[nearest]]
        counts = torch.bincount(there, minlength=len(self.means))
        return (counts < ABSENT * self.due).nonzero().flatten().tolist()


def pooled(samples: torch.Tensor) -> torch.Tensor:
    """Images (N, C, H, W) -> their averages over about 8 x 8 fields, (N, C, 8, 8); other samples as they are."""
    if samples.ndim != 4:
        return samples.float()
    return F.adaptive_avg_pool2d(samples.float(), (min(SIDE, samples.shape[2]), min(SIDE, samples.shape[3])))


def observe(reference: Reference, fake: torch.Tensor, before: torch.Tensor | None = None) -> dict[str, float]:
    """-> name -> float.

    fake: (M, ...) as `pooled` returns them, finite; before: the same latents' samples at the previous observation.

    diversity: mean distance of two samples over that of two real ones; below `diversity_low` it is not chance.
    coverage: PRDC's (k = 5); `coverage_expected` is that of real samples. movement: mean distance of a latent's
    sample from its previous one, over the mean distance of two real samples. classes_missing, of `classes`: those with
    less than a tenth of the samples that held-out real data have; a sample's class is its nearest real one's.
    """
    fake = fake.flatten(1)
    seen = {"diversity": _spread(fake) / reference.spread}
    if before is not None:
        seen["movement"] = (fake - before.flatten(1)).norm(dim=1).mean() / reference.spread
    if reference.due is not None:
        seen["classes_missing"] = (reference.classes_of(fake) < ABSENT * reference.due).sum()
    numbers = torch.stack([value.float() for value in seen.values()]).tolist()
    seen = dict(zip(seen, numbers, strict=True)) | {"diversity_low": reference.lowest_diversity}
    if reference.due is not None:
        seen["classes"] = reference.classes
    seen["coverage"] = precision_recall_density_coverage(reference.real, fake, k=NEIGHBOURS).coverage
    return seen | {"coverage_expected": reference.coverage}


def auc(real_logits: torch.Tensor, fake_logits: torch.Tensor) -> torch.Tensor:
    """P(D(x) > D(G(z))), ties as half: 1/2 if the critic separates nothing, 1 if it separates all. () float."""
    difference = real_logits.flatten()[:, None] - fake_logits.flatten()
    return (difference.sign().mean() + 1) / 2


def gradient_norm(module: nn.Module) -> torch.Tensor:
    """The Euclidean norm of all .grad together, () float32."""
    norms = [p.grad.norm().float() for p in module.parameters() if p.grad is not None]
    return torch.stack(norms).norm() if norms else torch.zeros(())


@torch.no_grad()
def largest_spectral_norm(network: nn.Module, iterations: int = 8) -> torch.Tensor:
    """The largest of all layers' weights (as matrices, with the scale of an equalised layer), () float32, from below by
    power iteration; 0 if each is divided by its norm (spectral norm: all are 1)."""
    source, largest = torch.Generator().manual_seed(0), [torch.zeros(())]
    for module in network.modules():
        weight = getattr(module, "_parameters", {}).get("weight")
        if not isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) or weight is None:
            continue  # a parametrized weight is not a parameter
        matrix = weight.flatten(1).float()
        v = torch.randn(matrix.shape[1], generator=source).to(matrix.device)
        for _ in range(iterations):
            v = F.normalize(matrix.T @ (matrix @ v), dim=0)
        largest.append((matrix @ v).norm().cpu() * getattr(module, "scale", 1.0))
    return torch.stack(largest).max()


def _spread(x):
    """Mean distance of two different rows."""
    return torch.pdist(x).mean()
