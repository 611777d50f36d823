"""The exact Wasserstein distance between two small sets, by an optimal assignment."""

import importlib.util

import numpy as np
import torch

from fastgan.extras import require
from fastgan.metrics.features.feature_tensor import check_pair

AT_MOST = 20_000  # the assignment needs the whole cost matrix


def wasserstein(real, fake, *, p=1):
    """W_p = (min over permutations s of mean_i |x_i - y_s(i)|^p)^(1/p), Euclidean norm, a float, in float64.

    real, fake: (N, D) with the same N, at most 20,000: O(N^2) memory, O(N^3) time. Uses SciPy's solver where SciPy is
    installed, else one in NumPy, which is much slower; points on a line are sorted instead.
    Biased upwards: about N^(-1/D) for one and the same distribution. Errors: TypeError, ValueError.
    """
    real, fake = (s.double() for s in check_pair(real, fake, at_least=1))
    if len(real) != len(fake) or len(real) > AT_MOST:
        raise ValueError(
            f"real and fake must have equally many samples, at most {AT_MOST}; got {len(real)}, {len(fake)}"
        )
    if p < 1:
        raise ValueError(f"p must be at least 1, got {p}")
    if real.shape[1] == 1:
        distances = (real.sort(0).values - fake.sort(0).values).abs()[:, 0]
    else:
        distances = torch.cdist(real, fake, compute_mode="donot_use_mm_for_euclid_dist")
        distances = distances[torch.arange(len(real)), _assign((distances**p).cpu().numpy())]
    return (distances**p).mean().item() ** (1 / p)


def _assign(cost):
    """For each row its column, so that the sum of the costs (N, N) is least."""
    if importlib.util.find_spec("scipy") is None:
        return torch.from_numpy(shortest_augmenting_paths(cost))
    return torch.from_numpy(require("scipy.optimize").linear_sum_assignment(cost)[1])


def shortest_augmenting_paths(cost):
    """The same in NumPy: rows are assigned one by one, along a shortest path of reduced costs (Jonker & Volgenant)."""
    n = len(cost)
    row_price, column_price = np.zeros(n), np.zeros(n)
    row_of = np.full(n, -1)  # column -> row
    for row in range(n):
        length, before = np.full(n, np.inf), np.full(n, -1)  # of the shortest path to each column, and whence it comes
        done = np.zeros(n, bool)
        at, reached, column = row, 0.0, -1
        visited = []
        while True:
            through = reached + cost[at] - row_price[at] - column_price
            shorter = ~done & (through < length)
            length[shorter], before[shorter] = through[shorter], column
            column = int(np.where(done, np.inf, length).argmin())
            reached, done[column] = length[column], True
            visited.append(column)
            if row_of[column] < 0:
                break
            at = row_of[column]
        row_price[row] += reached
        for c in visited[:-1]:
            row_price[row_of[c]] += reached - length[c]
            column_price[c] -= reached - length[c]
        while column >= 0:  # shift every row of the path to its next column
            previous = before[column]
            row_of[column] = row if previous < 0 else row_of[previous]
            column = previous
    column_of = np.empty(n, np.int64)
    column_of[row_of] = np.arange(n)
    return column_of
