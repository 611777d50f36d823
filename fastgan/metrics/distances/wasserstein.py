"""The exact Wasserstein distance between two small sets, by an optimal assignment."""

import torch

from fastgan.extras import require
from fastgan.metrics.features.feature_tensor import check_pair

AT_MOST = 20_000  # the assignment needs the whole cost matrix


def wasserstein(real: torch.Tensor, fake: torch.Tensor, *, p: float = 1) -> float:
    """W_p = (min over permutations s of mean_i |x_i - y_s(i)|^p)^(1/p), Euclidean norm, a float, in float64.

    real, fake: (N, D) with the same N, at most 20,000: O(N^2) memory, O(N^3) time, by SciPy's solver; points on a line
    are sorted, which needs no SciPy.
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
        columns = require("scipy.optimize", "data").linear_sum_assignment((distances**p).cpu().numpy())[1]
        distances = distances[torch.arange(len(real)), torch.from_numpy(columns)]
    return (distances**p).mean().item() ** (1 / p)
