"""The Vendi score: how many different samples there are (Friedman and Dieng, 2023)."""

import torch

from fastgan.metrics.features.feature_tensor import check_features


def vendi_score(features: torch.Tensor) -> float:
    """exp(-sum_i l_i log l_i), l the eigenvalues of K / N with K_ij the cosine of samples i and j; from 1 to min(N, D).

    features: (N, D) of any floating-point dtype, no row of zeros; computed in float64. The eigenvalues are taken from
    the smaller of K / N (N, N) and the features' second moment (D, D), which has the same ones: O(min(N, D)^2) memory.
    Needs no real samples; the same set of features always, for a comparison. Errors: TypeError, ValueError.
    """
    x = check_features(features, "features", 1).double()
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    if (norms == 0).any():
        raise ValueError("features must have no row of zeros: it has no direction")
    x = x / norms
    matrix = (x.T @ x if len(x) > x.shape[1] else x @ x.T) / len(x)
    return torch.special.entr(torch.linalg.eigvalsh(matrix).clamp_(0, 1)).sum().exp().item()
