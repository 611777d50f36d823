"""Mode coverage by a classifier: labelled images, and images stacked of several (stacked MNIST, Metz et al., 2017)."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from fastgan.metrics.coverage.mode_coverage import reverse_kl
from fastgan.metrics.evaluated import evaluated


class ClassCoverage(NamedTuple):
    """How many classes the samples reach, and how evenly."""

    modes: int  # predicted for at least one sample
    of: int  # modes that there are
    reverse_kl: float  # KL(predicted modes || uniform); floor (K - 1) / (2 N): kl_floor


def class_coverage(labels: torch.Tensor, classes: int) -> ClassCoverage:
    """labels: (N,) integers in 0..classes-1, as a classifier predicts them.

    A classifier's mistakes cover modes that no sample is of. So publish beside it the values on held-out real samples
    and on a set that is collapsed on purpose.
    """
    if not isinstance(labels, torch.Tensor) or labels.is_floating_point() or labels.ndim != 1:
        raise TypeError(f"labels must be an integer tensor (N,), got {getattr(labels, 'dtype', type(labels).__name__)}")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be non-empty and lie in 0..{classes - 1}")
    counts = torch.bincount(labels, minlength=classes)
    return ClassCoverage(int((counts > 0).sum()), classes, reverse_kl(counts))


@torch.no_grad()
def stacked_labels(
    classify: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, *, batch: int = 256
) -> torch.Tensor:
    """The mode of each image, one of K^C: the channels' classes as the digits of a number, first channel highest.

    images: (N, C, H, W), each channel a separate image. classify: (B, 1, H, W) -> logits (B, K), a network in
    evaluation mode. -> int64 (N,)
    """
    labels = []
    with evaluated(classify):
        for rows in images.split(batch):
            logits = classify(rows.flatten(0, 1).unsqueeze(1))  # (B C, K)
            digits = logits.argmax(1).view(len(rows), -1)
            powers = logits.shape[1] ** torch.arange(digits.shape[1] - 1, -1, -1, device=digits.device)
            labels.append((digits * powers).sum(1))
    return torch.cat(labels)
