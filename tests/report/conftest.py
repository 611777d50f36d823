"""Runs that the report shows: one of images with attention, one of points."""

import pytest
import torch

import fastgan
from fastgan import Recipe, Trainer

OPTIONS = {"log_every": 1, "sample_every": 2, "checkpoint_every": 4, "progress": False, "report": False}


@pytest.fixture(scope="session", autouse=True)
def patient():
    """A page has all its parts on a busy machine, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastgan.report.run_record.SECONDS_OF_A_RUN", 120.0)
        yield


@pytest.fixture(scope="session")
def attending(tmp_path_factory):
    """The Trainer of a run of 4 steps, images with attention."""
    images = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pair = fastgan.models.create("sagan", channels=1, resolution=16, width=2, z_dim=4)
    folder = tmp_path_factory.mktemp("runs") / "attending"
    trainer = Trainer(*pair, Recipe(batch_size=4), images, run_dir=folder, device="cpu", **OPTIONS)
    trainer.fit(4)
    return trainer


@pytest.fixture(scope="session")
def points(tmp_path_factory):
    """The folder of a run of 4 steps on a ring, with the flags of `fastgan train` in its setup."""
    folder = tmp_path_factory.mktemp("runs") / "points"
    pair = fastgan.models.create("mlp", features=2, width=4, z_dim=2)
    recipe = Recipe(batch_size=8, generator_lr=0.5, penalties=("R1(gamma=2.0)",))
    trainer = Trainer(*pair, recipe, fastgan.data.load("ring"), run_dir=folder, device="cpu", **OPTIONS)
    trainer.setup = {**trainer.setup, "flags": {"recipe": "dcgan", "data": "ring"}}
    trainer.fit(4)
    return folder
