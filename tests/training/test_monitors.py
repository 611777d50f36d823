"""Failures that are planted in short runs, and what the monitors say about them."""

import pytest
import torch
from torch import nn

from fastgan import Recipe, Trainer, models
from fastgan.data.toys import Toy
from fastgan.metrics import monitors
from fastgan.training.metrics_log import read_metrics
from fastgan.training.recorder import Recorder

SEEDS = range(5)
GOOD = {"loss": "relativistic_paired", "penalties": ("R1(gamma=0.1)", "R2(gamma=0.1)"), "generator_lr": 2e-3}
GOOD |= {"discriminator_lr": 2e-3, "betas": (0.0, 0.9), "batch_size": 64}


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr(Recorder, "_draw", lambda *_: None)


def ring(sigma=0.15):
    angle = torch.arange(6) * torch.pi / 3
    modes = torch.stack([angle.cos(), angle.sin()], 1)
    source = torch.Generator().manual_seed(0)
    labels = torch.randint(6, (4000,), generator=source)
    return Toy(modes[labels] + sigma * torch.randn(4000, 2, generator=source), labels, modes, sigma)


class Constant(nn.Module):
    """Whatever the latents, almost one sample."""

    z_dim, classes, shape = 2, None, (2,)

    def __init__(self):
        super().__init__()
        self.at = nn.Parameter(torch.zeros(2))

    def forward(self, z):
        return self.at + 0.01 * z


def run(folder, seed, steps=320, generator=None, **changes):
    torch.manual_seed(seed)
    pair = models.create("mlp", features=2, z_dim=2, width=48)
    networks = generator or pair.generator, pair.discriminator
    recipe = Recipe(seed=seed, **(GOOD | changes))
    intervals = {"log_every": 20, "sample_every": 40, "checkpoint_every": 1000}
    Trainer(*networks, recipe, ring(), run_dir=folder, progress=False, device="cpu", **intervals).fit(steps)
    return {f.name: f for f in monitors.findings(read_metrics(folder / "metrics.jsonl"))}, folder


@pytest.mark.parametrize("seed", SEEDS)
def test_a_collapsed_generator_is_named(tmp_path, seed):
    found, folder = run(tmp_path, seed, generator=Constant())
    assert "collapse" in found and found["missing classes"].steps >= 80, found
    assert not {"frozen generator", "exploding critic"} & set(found), found
    assert "classes missing" in (folder / "findings.txt").read_text()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_frozen_generator_is_named(tmp_path, seed):
    found, _ = run(tmp_path, seed, steps=200, generator_lr=0.0)
    assert found["frozen generator"].steps == 80 + 80 and "exploding critic" not in found, found


@pytest.mark.parametrize("seed", SEEDS)
def test_an_exploding_critic_is_named(tmp_path, seed):
    found, _ = run(tmp_path, seed, loss="wasserstein", penalties=(), discriminator_lr=0.02)
    assert "exploding critic" in found and "frozen generator" not in found, found


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_said_of_a_healthy_run(tmp_path, seed):
    found, _ = run(tmp_path, seed, steps=800)
    assert not found, list(map(str, found.values()))


def test_a_run_stops_at_a_plateau_and_keeps_its_best_state(tmp_path):
    torch.manual_seed(0)
    pair = models.create("mlp", features=2, z_dim=2, width=8)
    recipe = Recipe(generator_lr=0.0, batch_size=8)
    intervals = {"log_every": 5, "sample_every": 2, "checkpoint_every": 1000}
    trainer = Trainer(*pair, recipe, ring(), run_dir=tmp_path, progress=False, stop_when="plateau", **intervals)
    trainer.fit(100)
    assert trainer.state.step == 12 and trainer.recorder.best_step == 2
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["step_00000002"]
    assert (tmp_path / "checkpoints" / "step_00000012").exists()
