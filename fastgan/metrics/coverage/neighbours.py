"""Distances between points, a block at a time, and the balls around them."""

from collections.abc import Iterator

import torch

BLOCK = 1024  # a block of float64 distances stays in a cache of 8 MiB
SAME = 1e-13  # relative to |x|^2 + |y|^2: what the difference of float64 products leaves of a distance that is zero


class Points:
    """A set of points, ready for distances: rows (x, |x|^2, 1) of length D + 2 in float64, centred and scaled.

    Distances are computed in float64 and compared in float32. So a pair of equal points has distance exactly 0, and
    equal distances compare equal whichever product they came from: in a collapsed or a copied set, ties decide.
    """

    def __init__(self, rows: torch.Tensor, block: int) -> None:
        self.rows, self.block = rows, block

    @classmethod
    def pair(cls, a: torch.Tensor, b: torch.Tensor, block: int = BLOCK) -> "tuple[Points, Points]":
        """Both sets (N, D) with one centre, near which a lies, and one scale: no point is farther than 1 from it."""
        centre = a[:block].double().mean(0)
        a, b = (s.double().sub_(centre) if s.dtype != torch.float64 else s - centre for s in (a, b))
        scale = max(torch.linalg.vector_norm(s, dim=1).max() for s in (a, b))
        scale = torch.where(scale > 0, scale, 1.0)
        first, second = (cls(_with_norms(s.div_(scale)), block) for s in (a, b))
        return first, second

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self, start: int = 0) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yields slice, rows (b, D + 2) from block number `start` on."""
        for begin in range(start * self.block, len(self.rows), self.block):
            part = slice(begin, min(begin + self.block, len(self.rows)))
            yield part, self.rows[part]


def _with_norms(x):
    norms = x.square().sum(1, keepdim=True)
    return torch.cat([x, norms, torch.ones_like(norms)], 1)


def opposite(rows: torch.Tensor) -> torch.Tensor:
    """(-2 x, 1, |x|^2), whose product with (y, |y|^2, 1) is |x - y|^2."""
    return torch.cat([-2 * rows[:, :-2], rows[:, -1:], rows[:, -2:-1]], 1)


def squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n, m) float32 between `opposite` rows a and rows b."""
    d = a @ b.T
    if d.numel() and d.min() <= 2 * SAME:  # no norm is above 1
        d.masked_fill_(d <= SAME * (a[:, -1:] + b[:, -2]), 0)
    return d.float()


def squared_radii(points: Points, k: int) -> torch.Tensor:
    """Squared distance of each point to its k-th other neighbour, (N,) float32. Each pair of blocks is met once."""
    if not 1 <= k < len(points):
        raise ValueError(f"k must be from 1 to one less than the number of samples ({len(points)}), got {k}")
    nearest = torch.full((len(points), k + 1), torch.inf, device=points.rows.device)  # the point itself among them
    for i, (rows, a) in enumerate(points.blocks()):
        a = opposite(a)
        for columns, b in points.blocks(i):
            d = squared_distances(a, b)
            _keep_nearest(nearest, rows, d)
            if columns != rows:
                _keep_nearest(nearest, columns, d.T.contiguous())
    return nearest.max(1).values


def _keep_nearest(nearest, rows, d):
    count = nearest.shape[1]
    near = d.topk(min(count, d.shape[1]), dim=1, largest=False, sorted=False).values
    both = torch.cat([nearest[rows], near], 1)
    nearest[rows] = both.topk(count, dim=1, largest=False, sorted=False).values
