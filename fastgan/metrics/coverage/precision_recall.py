"""Improved precision and recall (Kynkaanniemi et al., 2019, equations 1 and 2)."""

from typing import NamedTuple

from fastgan.metrics.coverage.ball_counts import balls
from fastgan.metrics.coverage.neighbours import BLOCK


class PrecisionRecall(NamedTuple):
    precision: float
    recall: float


def precision_recall(real, fake, *, k=3, block=BLOCK):
    """precision: the share of fake samples in a real sample's ball; recall: of real samples in a fake sample's.

    A ball reaches to its centre's k-th other neighbour in its own set, its border included (<=), as in the paper and in
    torch-fidelity; precision_recall_density_coverage is strict and has k = 5. The two differ most where samples
    coincide: the balls of a collapsed set have radius 0, and hold their copies here, and not there.
    real, fake: features (N, D), (M, D), k < N, M. Distances in float64, memory O(block^2) beyond copies of
    them. Depends on N, M and k.
    Errors: TypeError, ValueError that name the argument.
    """
    found = balls(real, fake, k, border=True, block=block)
    precision = (found.real_balls_around_fake > 0).double().mean()
    return PrecisionRecall(precision.item(), found.real_in_fake_ball.double().mean().item())
