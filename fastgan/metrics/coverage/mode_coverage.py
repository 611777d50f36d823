"""How many modes of a mixture a generator reaches, and how evenly (PacGAN, Lin et al., 2018, section 4.1)."""

from math import log
from typing import Literal, NamedTuple

import torch

from fastgan.metrics.features.feature_tensor import check_features

RULES = ("ball", "box")


class ModeCoverage(NamedTuple):
    """Never the modes alone: a single sample captures one, so a diffuse generator captures all."""

    modes: int  # with at least one high-quality sample
    of: int  # modes that there are
    high_quality: float  # share of samples within `radius` deviations of their nearest mode
    reverse_kl: float  # KL(samples' modes || uniform), over high-quality samples; NaN without any
    reverse_kl_all: float  # over all samples, each at its nearest mode
    rule: str  # "ball" or "box"


def mode_coverage(
    samples: torch.Tensor,
    means: torch.Tensor,
    std: float | torch.Tensor,
    *,
    rule: Literal["ball", "box"] = "ball",
    radius: float = 3.0,
    block: int = 4096,
) -> ModeCoverage:
    """Each sample belongs to its nearest mode, and has high quality if it is less than `radius` deviations away.

    samples: (N, D); means: (K, D) of the modes; std: their common deviation, a number or (D,).
    rule: "ball", the Mahalanobis distance (PacGAN); "box", every coordinate by itself, which is larger. Samples of the
    mixture itself have 1 - exp(-radius^2 / 2) of high quality in 2D with the ball, 98.89 % at 3 (box: 99.46 %).
    reverse KL is a plug-in estimate with a floor of about (K - 1) / (2 N): kl_floor. Memory O(block K D).
    Errors: TypeError, ValueError that name the argument.
    """
    samples, means = check_features(samples, "samples", 1).double(), check_features(means, "means", 1).double()
    if samples.shape[1] != means.shape[1]:
        raise ValueError(f"samples and means must have equal width, got {samples.shape[1]} and {means.shape[1]}")
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    std = torch.as_tensor(std, dtype=torch.float64, device=samples.device)
    if not (std > 0).all():
        raise ValueError(f"std must be above 0, got {std.tolist()}")
    means = means.to(samples.device)
    everything, good = (torch.zeros(len(means), dtype=torch.int64, device=samples.device) for _ in range(2))
    for rows in samples.split(block):
        deviations = (rows[:, None] - means) / std  # (b, K, D)
        distances, nearest = torch.linalg.vector_norm(deviations, dim=2).min(1)
        if rule == "box":
            distances = deviations[torch.arange(len(rows), device=rows.device), nearest].abs().amax(1)
        everything += torch.bincount(nearest, minlength=len(means))
        good += torch.bincount(nearest[distances < radius], minlength=len(means))
    return ModeCoverage(
        modes=int((good > 0).sum()),
        of=len(means),
        high_quality=good.sum().item() / len(samples),
        reverse_kl=reverse_kl(good),
        reverse_kl_all=reverse_kl(everything),
        rule=rule,
    )


def reverse_kl(counts: torch.Tensor) -> float:
    """KL(q || uniform) = log K - H(q) in nats, q = counts / their sum, counts (K,); NaN if the sum is 0."""
    q = counts.double() / counts.sum()
    return log(len(counts)) - torch.special.entr(q).sum().item()


def kl_floor(modes: int, n: int) -> float:
    """(K - 1) / (2 N): about what n perfect samples of K equal modes have as their plug-in KL."""
    return (modes - 1) / (2 * n)
