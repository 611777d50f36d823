"""Views, permutations, reductions and joins drawn at random, along any dimension, that of the samples included.

Sizes are such that shapes often agree by accident. What mixes samples has to take the general route, and what does not
has to be right.
"""

import random

import pytest
import torch
from torch import nn

from fastgan.penalties import R1, R2
from fastgan.penalties.four_passes.visit import Visit
from tests.penalties.four_passes.reference import compare

SIZE, FEATURES, COUNT, PART = 4, 16, 400, 50
SHAPES = [(4, 16), (4, 4, 4), (4, 2, 8), (16, 4), (8, 8), (2, 2, 16), (2, 32), (32, 2), (4, 2, 2, 4), (64, 1), (1, 64)]


class Mixed(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.seed = seed
        self.first, self.second = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
        self.last, self.gain = nn.Linear(FEATURES, 1), nn.Parameter(torch.randn(4))
        self.double()

    def forward(self, x):
        draw = random.Random(self.seed)
        h = torch.relu(self.first(x)).reshape(-1, 4, 4)
        for _ in range(draw.randint(1, 4)):
            h = step(draw, h, self.gain)
        size = x.shape[0] * FEATURES
        if h.numel() < size:
            h = h.repeat(*[1] * (h.dim() - 1), -(-size // h.numel()))
        if h.numel() > size:
            h = h.flatten(1)[:, :FEATURES] if h.shape[0] == x.shape[0] else h.flatten()[:size]
        h = h.reshape(x.shape[0], FEATURES)
        return self.last(torch.relu(self.second(h) + 0.1 * self.first(x)))


def step(draw, h, gain):
    """A drawn operation; one that would leave too little keeps its input beside it."""
    d, e = (draw.randrange(0 if draw.random() < 0.15 else 1, h.dim()) for _ in range(2))
    kind = draw.randrange(19)
    if kind == 0:
        shape = draw.choice([s for s in SHAPES if torch.Size(s).numel() == h.numel()] or [h.shape])
        return h.reshape(shape)
    if kind == 1:
        return h.transpose(d, e)
    if kind == 2:
        return h.permute(draw.sample(range(h.dim()), h.dim()))
    if kind == 3:
        return h.flip(d) + 0.5 * h
    if kind == 4:
        return h.roll(1, d) - h
    if kind == 5:
        return h + h.sum(d, keepdim=True)
    if kind == 6:
        return h - h.mean((d, e) if d != e else d, keepdim=True)
    if kind == 7:
        return torch.maximum(h, 0.5 * h.amax(d, keepdim=True))
    if kind == 8:
        return torch.cat(h.chunk(2, d)[::-1], d)
    if kind == 9:
        return torch.stack([h, -h], d).select(d, draw.randrange(2))
    if kind == 10:
        index = torch.arange(h.shape[d]).flip(0)
        return h.index_select(d, index)
    if kind == 11:
        return h * gain[: h.shape[-1]] if h.shape[-1] <= 4 else h + gain[0]
    if kind == 12:
        return h.unsqueeze(d).expand(*h.shape[:d], 2, *h.shape[d:]).sum(e)
    if kind == 13:
        return h[(slice(None),) * d + (torch.arange(h.shape[d]).roll(1),)]
    if kind == 14:
        return h.gather(d, torch.zeros_like(h, dtype=torch.long)) + h
    if kind == 15:
        return h.max(d, keepdim=True).values + h
    if kind == 16:
        return h.cumsum(d) / 4
    if kind == 17 and h.dim() == 3:
        return torch.bmm(h, torch.ones(h.shape[0], h.shape[2], h.shape[2], dtype=h.dtype)) / 4
    if kind == 18:
        return torch.nn.functional.pad(h, [0, 0] * (h.dim() - 1 - d) + [1, -1])
    return h + h.T if h.dim() == 2 and h.shape[0] == h.shape[1] else h.movedim(d, e)


def batches(seed):
    return torch.randn(2, SIZE, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("first", range(0, COUNT, PART))
def test_gradients_through_drawn_views_are_those_of_autograd(first, monkeypatch):
    for check in ("_require_apart", "_is_symmetric"):
        monkeypatch.setattr(Visit, check, lambda *given: True)  # what the graph shows has to be enough
    routes = []
    for seed in range(first, first + PART):
        terms = (R1(allow_coupled=True),) if seed % 2 else (R1(allow_coupled=True), R2(allow_coupled=True))
        routes.append(compare(Mixed(seed), "relativistic_paired", terms, *batches(seed)).route)
    assert {"four passes", "general"} == set(routes)
