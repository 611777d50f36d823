"""Small networks on points of the plane."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn


class Generator(nn.Module):
    def __init__(self, classes=None):
        super().__init__()
        self.z_dim, self.classes, self.shape = 3, classes, (2,)
        self.embedding = nn.Embedding(classes, 3) if classes else None
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, z, labels=None):
        return self.layers(z if labels is None else z + self.embedding(labels))


class Discriminator(nn.Module):
    """`batches`: the sizes of the batches that it saw, those of the step alone: see couples_samples."""

    couples_samples = False  # a promise; without it the first step would measure

    def __init__(self, classes=None, batch_norm=False, dropout=0.0):
        super().__init__()
        self.embedding = nn.Embedding(classes, 2) if classes else None
        norm = nn.BatchNorm1d(8) if batch_norm else nn.Identity()
        self.layers = nn.Sequential(nn.Linear(2, 8), norm, nn.LeakyReLU(0.2), nn.Dropout(dropout), nn.Linear(8, 1))
        self.batches = []

    def forward(self, x, labels=None):
        self.batches.append(len(x))
        return self.layers(x if labels is None else x + self.embedding(labels)).squeeze(1)


def pair(seed=0, classes=None, **kw):
    torch.manual_seed(seed)
    return Generator(classes), Discriminator(classes, **kw)


@pytest.fixture
def toy():
    return SimpleNamespace(Generator=Generator, Discriminator=Discriminator, pair=pair)
