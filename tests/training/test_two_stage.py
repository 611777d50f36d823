import pytest
import torch

from fastgan import Recipe
from fastgan.data import fashion_mnist
from fastgan.training import TwoStage

RECIPE = Recipe(loss="non_saturating", batch_size=4)
SMALL = {"width": 4, "z_dim": 8, "progress": False, "device": "cpu"}


def first_stage(trainer):
    return [p.detach().clone() for p in trainer.state.generator.stage_one.parameters()]


def test_stage_two_draws_shape_and_image(tmp_path):
    trainer = TwoStage(fashion_mnist(), RECIPE, run_dir=tmp_path, **SMALL).fit(2, 2)
    drawn = trainer.state.average(torch.randn(3, trainer.state.average.z_dim))
    assert drawn.shape == (3, 2, 28, 28)
    for stage in ("stage_one", "stage_two"):
        assert (tmp_path / stage / "samples.png").exists()


@pytest.mark.parametrize("joint", [False, True])
def test_stage_one_is_frozen_or_goes_on(tmp_path, joint):
    two = TwoStage(fashion_mnist(), RECIPE, run_dir=tmp_path, joint=joint, **SMALL)
    before = first_stage(two.fit(2, 1))
    after = first_stage(two.fit(2, 3))
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) == (not joint)


@pytest.mark.parametrize("stopped", [(1, 0), (3, 1)])  # in stage I, in stage II
def test_it_goes_on_as_if_it_had_not_stopped(tmp_path, stopped):
    whole = TwoStage(fashion_mnist(), RECIPE, run_dir=tmp_path / "whole", **SMALL).fit(3, 3)
    TwoStage(fashion_mnist(), RECIPE, run_dir=tmp_path / "parts", **SMALL).fit(*stopped)
    resumed = TwoStage(fashion_mnist(), RECIPE, run_dir=tmp_path / "parts", **SMALL).fit(3, 3)
    for a, b in zip(whole.state.generator.parameters(), resumed.state.generator.parameters(), strict=True):
        assert torch.equal(a, b)
