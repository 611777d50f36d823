"""Small networks on points of the plane, and small networks of every recipe."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fastgan import Trainer, data
from fastgan.training import Callback, ProgressiveSchedule, networks
from fastgan.training.recipe.presets import RECIPES


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


class Keeps(Callback):
    """The numbers of each step."""

    def __init__(self):
        self.values = []

    def on_step(self, trainer, row):
        self.values.append({name: value.clone() for name, value in trainer.values.items()})


def trainer_of(recipe, pair, samples, folder):
    """A Trainer that writes nothing; trainer.callbacks[0].values has the numbers of its steps."""
    trainer = Trainer(*pair, recipe, samples, run_dir=folder, device="cpu", progress=False)
    trainer.callbacks = [Keeps()]
    return trainer


def named_trainer(name, folder, **changes):
    """A Trainer of a named recipe, with small networks and batches of two."""
    named = RECIPES[name]
    samples = data.load(named.data)
    changes |= {"batch_size": 2, "discriminator_burst": (0, 0, 0)}
    if named.settings.progressive:
        changes["progressive"] = ProgressiveSchedule(phase_images=8)
    recipe = replace(named.settings, discriminator_steps=min(2, named.settings.discriminator_steps), **changes)
    model = networks.describe(samples, named, recipe)
    model["width"] = {"mlp": 16, "progressive": 4}.get(model["name"], 2)
    return trainer_of(recipe, networks.build(model, recipe), samples, folder)


@pytest.fixture
def toy():
    return SimpleNamespace(
        Generator=Generator,
        Discriminator=Discriminator,
        pair=pair,
        trainer_of=trainer_of,
        named_trainer=named_trainer,
    )
