"""Distances between points, a block at a time, and the balls around them."""

import torch

BLOCK = 1024  # a block of float64 distances stays in a cache of 8 MiB
SAME = 1e-13  # relative to |x|^2 + |y|^2: what the difference of float64 products leaves of a distance that is zero


class Points:
    """A set of points (N, D), given out in blocks in float64, minus `centre` (D,) and divided by `scale`.

    Distances are computed in float64 and compared in float32. So a pair of equal points has distance exactly 0, and
    equal distances compare equal whichever product they came from: in a collapsed or a copied set, ties decide.
    """

    def __init__(self, points, centre, scale, block):
        self.points, self.centre, self.scale, self.block = points, centre, scale, block

    @classmethod
    def pair(cls, a, b, block=BLOCK):
        """Both sets with one centre, near which a lies, and one scale, so that no point is farther than 1 from it."""
        centre = a[:block].double().mean(0)
        sizes = [torch.linalg.vector_norm(x.double() - centre, dim=1).max() for s in (a, b) for x in s.split(block)]
        scale = torch.stack(sizes).max()
        scale = torch.where(scale > 0, scale, 1.0)
        return cls(a, centre, scale, block), cls(b, centre, scale, block)

    def __len__(self):
        return len(self.points)

    def blocks(self, start=0):
        """Yields slice, (points (b, D), their squared norms (b,)) from block number `start` on."""
        for begin in range(start * self.block, len(self.points), self.block):
            rows = slice(begin, min(begin + self.block, len(self.points)))
            x = (self.points[rows].double() - self.centre) / self.scale
            yield rows, (x, x.square().sum(1))


def squared_distances(a, b):
    """(n, m) float32 from two blocks of `Points`."""
    (x, xx), (y, yy) = a, b
    scale = xx[:, None] + yy
    d = torch.addmm(scale, x, y.T, alpha=-2)
    return d.masked_fill_(d <= scale.mul_(SAME), 0).float()


def squared_radii(points, k):
    """Squared distance of each point to its k-th other neighbour, (N,) float32. Each pair of blocks is met once."""
    if not 1 <= k < len(points):
        raise ValueError(f"k must be from 1 to one less than the number of samples ({len(points)}), got {k}")
    nearest = torch.full((len(points), k + 1), torch.inf, device=points.points.device)  # the point itself among them
    for i, (rows, a) in enumerate(points.blocks()):
        for columns, b in points.blocks(i):
            d = squared_distances(a, b)
            _keep_nearest(nearest, rows, d)
            if columns != rows:
                _keep_nearest(nearest, columns, d.T)
    return nearest.max(1).values


def _keep_nearest(nearest, rows, d):
    count = nearest.shape[1]
    near = d.topk(min(count, d.shape[1]), dim=1, largest=False, sorted=False).values
    both = torch.cat([nearest[rows], near], 1)
    nearest[rows] = both.topk(count, dim=1, largest=False, sorted=False).values
