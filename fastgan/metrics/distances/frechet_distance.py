"""The Frechet distance between two Gaussians: FID (Heusel et al., 2017, equation 6), on any features."""

import torch

from fastgan.metrics.distances.gaussian_statistics import GaussianStatistics, same_extractor
from fastgan.metrics.features.feature_tensor import check_features

FAR_FROM_SINGULAR = 1e-4  # smallest to largest pivot, a root of the covariance's


def frechet_distance(real: torch.Tensor | GaussianStatistics, fake: torch.Tensor | GaussianStatistics) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), a float.

    real, fake: features (N, D) of any floating-point dtype, N >= 2, or GaussianStatistics. Computed in float64.
    tr (S1 S2)^(1/2) is the sum of the roots of the eigenvalues of the symmetric R^T S2 R, S1 = R R^T, which are real
    and not negative for singular covariances as well (a collapsed set, or fewer samples than features).
    Biased upwards at finite N, the more the fewer samples: compare values of the same N only, and have N well above D.
    Units: features squared. Not differentiable. Errors: TypeError, ValueError that name the argument.
    """
    real, fake = _statistics(real, "real"), _statistics(fake, "fake")
    same_extractor(real, fake)
    if real.mean.shape != fake.mean.shape:
        raise ValueError(f"real and fake must have equally many features, got {len(real.mean)} and {len(fake.mean)}")
    s1, s2 = real.covariance, fake.covariance.to(real.mean.device)
    root = _root(s1)
    cross = torch.linalg.eigvalsh(root.T @ s2 @ root).clamp_(min=0).sqrt().sum()
    distance = (real.mean - fake.mean.to(real.mean.device)).square().sum() + s1.trace() + s2.trace() - 2 * cross
    return distance.item()


def _statistics(value: torch.Tensor | GaussianStatistics, name: str) -> GaussianStatistics:
    if not isinstance(value, GaussianStatistics):
        value = GaussianStatistics.of(check_features(value, name))
    if value.n < 2:
        raise ValueError(f"{name} must hold at least 2 samples for this metric, got {value.n}")
    return value


def _root(s):
    """R (D, rank) with R R^T = S: by Cholesky if S is far from singular, else by its eigenvectors.

    The eigenvectors leave out the null space. Its rounding noise would add a root for every direction.
    """
    triangle, failed = torch.linalg.cholesky_ex(s)
    pivots = triangle.diagonal()
    if not failed and pivots.min() > FAR_FROM_SINGULAR * pivots.max():
        return triangle
    values, vectors = torch.linalg.eigh(s)
    kept = values > values[-1] * len(values) ** 0.5 * torch.finfo(s.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()
