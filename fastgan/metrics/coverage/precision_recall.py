"""Precision and recall by the balls around samples (Kynkaanniemi et al., 2019), and PRDC (Naeem et al., 2020)."""

from math import prod
from typing import NamedTuple

import torch

from fastgan.metrics.coverage.neighbours import BLOCK, Points, opposite, squared_distances, squared_radii
from fastgan.metrics.features.feature_tensor import check_pair


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float
    recall: float


def precision_recall(real: torch.Tensor, fake: torch.Tensor, *, k: int = 3, block: int = BLOCK) -> PrecisionRecall:
    """precision: the share of fake samples in a real sample's ball; recall: of real samples in a fake sample's
    (equations 1 and 2 of Kynkaanniemi et al.).

    A ball reaches to its centre's k-th other neighbour in its own set, its border included (<=), as in the paper and in
    torch-fidelity; precision_recall_density_coverage is strict and has k = 5. The two differ most if samples
    coincide: the balls of a collapsed set have radius 0. Here they hold their copies, there they do not.
    real, fake: features (N, D), (M, D), k < N, M. Distances in float64, memory O(block^2) beyond copies of
    them. Depends on N, M and k.
    Errors: TypeError, ValueError that name the argument.
    """
    found = balls(real, fake, k, border=True, block=block)
    precision = (found.real_balls_around_fake > 0).double().mean()
    return PrecisionRecall(precision.item(), found.real_in_fake_ball.double().mean().item())


class PRDC(NamedTuple):
    """Precision, recall and coverage are shares in [0, 1]; the density can exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall_density_coverage(
    real: torch.Tensor, fake: torch.Tensor, *, k: int = 5, block: int = BLOCK
) -> PRDC:
    """density: real balls around a fake sample, over k, on average; coverage: the share of real balls with a fake in
    (sections 3 and 4 of Naeem et al.).

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


def expected_coverage(n: int, m: int, k: int = 5) -> float:
    """1 - prod_{j<k} (n - 1 - j) / (n + m - 1 - j): of n real and m fake samples of one continuous distribution.

    A ball is empty if the k nearest of the n + m - 1 other samples are all real.
    """
    return 1 - prod((n - 1 - j) / (n + m - 1 - j) for j in range(k))


class Balls(NamedTuple):
    """A sample's ball reaches to its k-th other neighbour in its own set."""

    real_balls_around_fake: torch.Tensor  # (M,) how many real samples' balls hold the fake sample
    real_in_fake_ball: torch.Tensor  # (N,) whether any fake sample's ball holds the real sample
    real_ball_hit: torch.Tensor  # (N,) whether the real sample's ball holds any fake sample


def balls(real: torch.Tensor, fake: torch.Tensor, k: int, border: bool, block: int = BLOCK) -> Balls:
    """border: whether a sample on a ball's border lies in it. Memory O(block^2 + (N + M) D)."""
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    ours, theirs = Points.pair(*check_pair(real, fake), block)
    inside = torch.le if border else torch.lt
    real_radii, fake_radii = squared_radii(ours, k), squared_radii(theirs, k)
    device = real_radii.device
    around = torch.zeros(len(theirs), dtype=torch.int64, device=device)
    in_fake, hit = (torch.zeros(len(ours), dtype=torch.bool, device=device) for _ in range(2))
    for rows, a in ours.blocks():
        a = opposite(a)
        for columns, b in theirs.blocks():
            d = squared_distances(a, b)  # (real, fake)
            in_real_ball = inside(d, real_radii[rows, None])
            around[columns] += in_real_ball.sum(0)
            hit[rows] |= in_real_ball.any(1)
            in_fake[rows] |= inside(d, fake_radii[columns]).any(1)
    return Balls(around, in_fake, hit)
