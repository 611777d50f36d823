"""Precision, recall, density and coverage: PRDC (Naeem et al., 2020, sections 3 and 4)."""

from math import prod
from typing import NamedTuple

from fastgan.metrics.coverage.ball_counts import balls
from fastgan.metrics.coverage.neighbours import BLOCK


class PRDC(NamedTuple):
    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall_density_coverage(real, fake, *, k=5, block=BLOCK):
    """density: real balls around a fake sample, over k, on average; coverage: the share of real balls with a fake in.

    A ball reaches to its centre's k-th other neighbour in its own set, without its border (<), as in the authors' code;
    precision_recall includes it and has k = 3. So a ball of radius 0 holds nothing, not even its centre's copies.
    Where real = fake in distribution, density has expectation 1 and coverage that of expected_coverage; density may
    exceed 1. real, fake: features (N, D), (M, D), k < N, M. Distances in float64, memory O(block^2) beyond copies of
    them.
    Errors: TypeError, ValueError that name the argument.
    """
    found = balls(real, fake, k, border=False, block=block)
    return PRDC(
        precision=(found.real_balls_around_fake > 0).double().mean().item(),
        recall=found.real_in_fake_ball.double().mean().item(),
        density=found.real_balls_around_fake.double().mean().item() / k,
        coverage=found.real_ball_hit.double().mean().item(),
    )


def expected_coverage(n, m, k=5):
    """1 - prod_{j<k} (n - 1 - j) / (n + m - 1 - j): of n real and m fake samples of one continuous distribution.

    A ball is empty where the k nearest of the n + m - 1 other samples are all real.
    """
    return 1 - prod((n - 1 - j) / (n + m - 1 - j) for j in range(k))
