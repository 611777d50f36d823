"""Wasserstein distances of projections on random lines (Rabin et al., 2011)."""

import torch

from fastgan.metrics.features.feature_tensor import check_pair


def random_directions(
    count: int, width: int, seed: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Unit vectors, uniform on the sphere: (width, count)"""
    source = torch.Generator().manual_seed(seed)
    directions = torch.randn(width, count, generator=source, dtype=torch.float64)
    return (directions / torch.linalg.vector_norm(directions, dim=0)).to(device, dtype)


def sliced_wasserstein(
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    directions: int | torch.Tensor = 128,
    p: float = 2,
    seed: int = 0,
    block: int = 32,
) -> float:
    """(mean over directions of W_p(real . u, fake . u)^p)^(1/p), a float.

    real, fake: (N, D), (M, D) of float64, else computed in float32. directions: how many, or their unit vectors
    (D, L). N != M compares the quantile functions, which are steps. Memory O(block (N + M)).
    Errors: TypeError, ValueError that name the argument.
    """
    real, fake = check_pair(real, fake, at_least=1)
    if p < 1:
        raise ValueError(f"p must be at least 1, got {p}")
    if not isinstance(directions, torch.Tensor):
        directions = random_directions(directions, real.shape[1], seed)
    elif directions.ndim != 2 or directions.shape[0] != real.shape[1]:
        raise ValueError(f"directions must have shape ({real.shape[1]}, L), got {tuple(directions.shape)}")
    weights, rows, columns = _common_steps(len(real), len(fake), real.device)
    total = 0.0
    for u in directions.to(real).split(block, dim=1):
        a, b = ((s @ u).sort(0).values.double() for s in (real, fake))
        total += ((a[rows] - b[columns]).abs() ** p * weights[:, None]).sum().item()
    return (total / directions.shape[1]) ** (1 / p)


def _common_steps(n, m, device):
    """The pieces on which both quantile functions are constant: their lengths, and which sorted sample each has."""
    ends = torch.cat([torch.arange(1, n + 1, dtype=torch.int64) * m, torch.arange(1, m + 1, dtype=torch.int64) * n])
    ends = ends.unique()  # sorted, in units of 1 / (n m)
    begins = torch.cat([ends.new_zeros(1), ends[:-1]])
    weights = (ends - begins).double() / (n * m)
    return weights.to(device), (begins // m).to(device), (begins // n).to(device)
