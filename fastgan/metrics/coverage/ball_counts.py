"""Which samples of one set lie in the balls around the samples of the other."""

from typing import NamedTuple

import torch

from fastgan.metrics.coverage.neighbours import BLOCK, Points, opposite, squared_distances, squared_radii
from fastgan.metrics.features.feature_tensor import check_pair


class Balls(NamedTuple):
    """A sample's ball reaches to its k-th other neighbour in its own set."""

    real_balls_around_fake: torch.Tensor  # (M,) how many real samples' balls hold the fake sample
    real_in_fake_ball: torch.Tensor  # (N,) whether any fake sample's ball holds the real sample
    real_ball_hit: torch.Tensor  # (N,) whether the real sample's ball holds any fake sample


def balls(real, fake, k, border, block=BLOCK):
    """border: whether a sample on a ball's border lies in it. Memory O(block^2 + (N + M) D)."""
    if block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    real, fake = Points.pair(*check_pair(real, fake), block)
    inside = torch.le if border else torch.lt
    real_radii, fake_radii = squared_radii(real, k), squared_radii(fake, k)
    device = real_radii.device
    around = torch.zeros(len(fake), dtype=torch.int64, device=device)
    in_fake, hit = (torch.zeros(len(real), dtype=torch.bool, device=device) for _ in range(2))
    for rows, a in real.blocks():
        a = opposite(a)
        for columns, b in fake.blocks():
            d = squared_distances(a, b)  # (real, fake)
            in_real_ball = inside(d, real_radii[rows, None])
            around[columns] += in_real_ball.sum(0)
            hit[rows] |= in_real_ball.any(1)
            in_fake[rows] |= inside(d, fake_radii[columns]).any(1)
    return Balls(around, in_fake, hit)
