import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from fastgan import Recipe, Trainer
from fastgan.training import ProgressiveSchedule
from fastgan.training.recipe.growth import Stage, shrink
from fastgan.training.run import checkpoint

SCHEDULE = ProgressiveSchedule(phase_images=12, batch_sizes=(6, 3))  # 2 steps; 4 + 4 steps; 4 steps and then on


def test_levels_are_trained_then_the_next_is_faded_in():
    stages = [SCHEDULE.at(step, 2, 64) for step in range(20)]
    assert [s.level for s in stages] == [0] * 2 + [1] * 8 + [2] * 10
    assert [s.alpha for s in stages[:10]] == [1, 1, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert [s.batch_size for s in stages] == [6] * 2 + [3] * 18
    assert [step for step, s in enumerate(stages) if s.begins] == [2, 10]
    assert SCHEDULE.at(10**6, 2, 64) == Stage(2, 1.0, 3, False)
    assert ProgressiveSchedule(12).at(0, 2, 4).batch_size == 4  # the recipe's


def test_reals_lose_the_detail_that_the_networks_cannot_draw_yet():
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(shrink(x, 0, 1.0), x)
    assert torch.equal(shrink(x, 1, 1.0), F.avg_pool2d(x, 2))
    coarse = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2)
    assert torch.equal(shrink(x, 0, 0.0), coarse)
    torch.testing.assert_close(shrink(x, 0, 0.25), 0.75 * coarse + 0.25 * x)


class Grown(nn.Module):
    """Of levels 0..2, 2 x 2 to 8 x 8; notes its calls."""

    levels, classes, z_dim, shape = 2, None, 4, (1, 8, 8)
    couples_samples = False  # a promise: the sizes noted are those of the steps alone

    def __init__(self, generator):
        super().__init__()
        self.generator, self.stages, self.sizes = generator, [], []
        self.linear = nn.Linear(4, 4)
        self.set_stage(2, 1.0)

    def set_stage(self, level, alpha):
        self.level, self.alpha = level, alpha
        self.stages.append((level, alpha))

    def forward(self, x):
        if self.generator:
            return F.interpolate(self.linear(x).view(-1, 1, 2, 2), scale_factor=2**self.level)
        self.sizes.append(x.shape[-1])
        return self.linear(F.adaptive_avg_pool2d(x, 2).flatten(1)).sum(1)


def make(run_dir, resume=False):
    torch.manual_seed(0)
    recipe = Recipe(progressive=SCHEDULE, betas=(0.5, 0.9))
    data = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Trainer(
        Grown(True), Grown(False), recipe, data, run_dir=run_dir, resume=resume, progress=False, device="cpu"
    )


def test_the_critic_sees_real_and_generated_images_of_the_level(tmp_path):
    trainer = make(tmp_path)
    trainer.fit(11)
    assert trainer.state.discriminator.sizes == [2, 2] * 2 + [4, 4] * 8 + [8, 8]
    assert (trainer.state.average.level, trainer.state.average.alpha) == (2, 0.0)


def test_optimisers_start_afresh_at_each_level(tmp_path):
    trainer = make(tmp_path)
    trainer.fit(11)
    steps = {int(entry["step"]) for entry in trainer.state.generator_optimizer.state.values()}
    assert steps == {1}


def test_a_run_resumes_in_the_middle_of_a_fade(tmp_path):
    make(tmp_path / "whole").fit(12)
    make(tmp_path / "halves").fit(4)
    make(tmp_path / "halves", resume=True).fit(12)
    paths = [checkpoint.latest(tmp_path / run / "checkpoints") for run in ("whole", "halves")]
    for name in ("generator", "discriminator", "average", "optimizers"):
        whole, halves = (load_file(path / f"{name}.safetensors") for path in paths)
        assert whole.keys() == halves.keys() and all(torch.equal(whole[k], halves[k]) for k in whole)


def test_a_pair_that_does_not_grow_is_refused(toy, tmp_path):
    recipe = Recipe(progressive="ProgressiveSchedule(phase_images=100)")
    with pytest.raises(TypeError, match="progressive needs a pair that grows"):
        Trainer(*toy.pair(), recipe, torch.randn(8, 2), run_dir=tmp_path, progress=False)
