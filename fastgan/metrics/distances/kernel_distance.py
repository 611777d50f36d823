"""Squared maximum mean discrepancy with a cubic kernel: KID (Binkowski et al., 2018, section 4), on any features."""

from math import log10
from typing import NamedTuple

import numpy as np
import torch

from fastgan.metrics.features.feature_tensor import check_pair

ROWS = 500  # of a block of products
WHOLE = 250  # samples whose products with each other are all computed; products of a few rows would be slow


class KernelDistance(NamedTuple):
    """mean: the estimate. std: between subsets (0 for a single one); they overlap, so it is not a standard error."""

    mean: float
    std: float


def kernel_distance(
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    subsets: int = 100,
    subset_size: int | None = 1000,
    degree: int = 3,
    gamma: float | None = None,
    coef0: float = 1.0,
    seed: int = 2020,
) -> KernelDistance:
    """Mean over random subsets of the unbiased MMD^2 under k(x, y) = (gamma x.y + coef0)^degree, gamma = 1/D.

    real, fake: features (N, D), both N >= subset_size, of float64, else computed in float32 (in float64 if the kernel
    of such large values would overflow); rows are summed in that type (pairwise), their sums in float64.
    subset_size=None: one estimate from all samples, for sets that are small. The subsets are those that torch-fidelity
    draws for the same seed. Under equality the expectation is 0, and single values may be negative. Memory:
    O(subset_size (D + 500)). Errors: TypeError, ValueError that name the argument, N too small among them.
    """
    real, fake = check_pair(real, fake)
    largest = max(s.abs().max().item() for s in (real, fake))
    if real.dtype == torch.float32 and _overflows(largest, degree):
        real, fake = real.double(), fake.double()
    if _overflows(largest, degree, torch.float64):
        raise ValueError(f"real and fake are too large for a kernel of degree {degree}: divide both by {largest:.1e}")
    gamma = 1 / real.shape[1] if gamma is None else gamma
    shift = torch.tensor(coef0, dtype=real.dtype, device=real.device)
    kernel = lambda x, y: torch.addmm(shift, x, y.T, alpha=gamma).pow_(degree)  # noqa: E731
    if subset_size is None:
        return KernelDistance(_unbiased(kernel, real, fake), 0.0)
    if subset_size < 2 or subsets < 1:
        raise ValueError(f"subsets, subset_size must be at least 1, 2; got {subsets}, {subset_size}")
    if min(len(real), len(fake)) < subset_size:
        raise ValueError(
            f"subset_size must be at most the number of samples, got {subset_size} for {len(real)} real and {len(fake)}"
            " fake ones; draw more, or compare at a smaller subset_size"
        )
    random = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        x, y = (
            s.index_select(0, torch.from_numpy(random.choice(len(s), subset_size, replace=False)).to(s.device))
            for s in (real, fake)
        )
        values.append(_unbiased(kernel, x, y))
    return KernelDistance(float(np.mean(values)), float(np.std(values)))


def _overflows(largest, degree, dtype=torch.float32):
    """Whether sums of (x.y / D + 1)^degree may leave the type: with room for 1e6 summands."""
    return largest > 1 and 2 * degree * log10(largest) > log10(torch.finfo(dtype).max) - 6


def _unbiased(kernel, x, y):
    n, m = len(x), len(y)
    within = _pairs_within(kernel, x) / (n * (n - 1)) + _pairs_within(kernel, y) / (m * (m - 1))
    return (within - 2 * _between(kernel, x, y) / (n * m)).item()


def _pairs_within(kernel, x):
    """Sum of k(x_i, x_j) over i != j; the kernel is symmetric, so half against half is computed once."""
    if len(x) <= WHOLE:
        square = kernel(x, x)
        return _sum(square) - square.diagonal().sum(dtype=torch.float64)
    first, second = x.tensor_split(2)
    return _pairs_within(kernel, first) + _pairs_within(kernel, second) + 2 * _between(kernel, first, second)


def _between(kernel, x, y):
    return sum(_sum(kernel(rows, y)) for rows in x.split(ROWS))


def _sum(values):
    return values.sum(1).sum(dtype=torch.float64)
