"""The inception score (Salimans et al., 2016), under whatever classifier gave the logits."""

from typing import NamedTuple

import numpy as np
import torch

from fastgan.metrics.features.feature_tensor import check_features


class InceptionScore(NamedTuple):
    """mean and std over the splits."""

    mean: float
    std: float


def inception_score(logits: torch.Tensor, *, splits: int = 10, seed: int | None = 2020) -> InceptionScore:
    """exp E KL(p(y|x) || p(y)), mean over `splits` parts of the samples; between 1 and the number of classes.

    logits: (N, classes) of any floating-point dtype, N >= splits; computed in float64. seed: of the permutation before
    the splits, torch-fidelity's for the same seed; None: as the samples come.
    With another classifier than Inception the value does not compare with the literature. Its bias depends on N /
    splits.
    Errors: TypeError, ValueError that name the argument.
    """
    logits = check_features(logits, "logits", splits).double()
    if splits < 1:
        raise ValueError(f"splits must be at least 1, got {splits}")
    n = len(logits)
    if seed is not None:
        logits = logits[np.random.RandomState(seed).permutation(n)]
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    scores = []
    for i in range(splits):
        part = slice(i * n // splits, (i + 1) * n // splits)
        marginal = p[part].mean(0)
        # Where p(y) is 0 so is every p(y|x), and 0 log 0 is 0.
        log_marginal = marginal.clamp_min(torch.finfo(torch.float64).tiny).log()
        divergence = (p[part] * (log_p[part] - log_marginal)).where(p[part] > 0, 0.0).sum(1)
        scores.append(divergence.mean().exp().item())
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))
