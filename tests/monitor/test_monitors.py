"""Failures that are planted in short runs, and what the monitors say about them."""

import pytest
import torch
from torch import nn

from fastgan import Recipe, Trainer, models, monitor
from fastgan.data.sources.toys import Toy
from fastgan.monitor.stop import GapStop, Stop
from fastgan.nn import spectral_norm
from fastgan.training.callbacks.pictures import Pictures
from fastgan.training.run.metrics_log import read_metrics

SEEDS = range(5)
GOOD = {"loss": "relativistic_paired", "penalties": ("R1(gamma=0.1)", "R2(gamma=0.1)"), "generator_lr": 2e-3}
GOOD |= {"discriminator_lr": 2e-3, "betas": (0.0, 0.9), "batch_size": 64}


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    monkeypatch.setattr(Pictures, "draw", lambda *_: None)


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


class Far(Constant):
    def forward(self, z):
        return super().forward(z) + 20


class Beside(Constant):
    """As diverse as the real samples, and where there are none."""

    def forward(self, z):
        return self.at + 0.7 * z + 4


class Half(nn.Module):
    """Samples like the real ones, of the modes 0, 1 and 2 alone; what it learns is a little shift."""

    z_dim, classes, shape = 3, None, (2,)

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, z):
        angle = (z[:, 2].sigmoid() * 3).floor() * torch.pi / 3
        return torch.stack([angle.cos(), angle.sin()], 1) + 0.15 * z[:, :2] + 0.1 * self.shift.tanh()


def run(folder, seed, steps=320, generator=None, **changes):
    torch.manual_seed(seed)
    pair = models.create("mlp", features=2, z_dim=2, width=48)
    networks = generator or pair.generator, pair.discriminator
    recipe = Recipe(seed=seed, **(GOOD | changes))
    intervals = {"log_every": 20, "sample_every": 40, "checkpoint_every": 1000}
    Trainer(*networks, recipe, ring(), run_dir=folder, progress=False, device="cpu", **intervals).fit(steps)
    return {f.name: f for f in monitor.findings(read_metrics(folder / "metrics.jsonl"))}, folder


@pytest.mark.parametrize("seed", SEEDS)
def test_a_collapsed_generator_is_named(tmp_path, seed):
    found, folder = run(tmp_path, seed, generator=Constant())
    assert "collapse" in found and found["missing modes"].steps >= 80, found
    assert not {"frozen generator", "exploding critic"} & set(found), found
    assert "of 6 modes missing" in (folder / "findings.txt").read_text()


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


@pytest.mark.parametrize("seed", SEEDS)
def test_missing_modes_are_named_by_number(tmp_path, seed):
    found, _ = run(tmp_path, seed, steps=200, generator=Half())
    assert "3 (numbers 3, 4, 5) of 6 modes missing" in found["missing modes"].text, found
    assert not {"exploding critic", "dead gradients"} & set(found), found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_critic_that_is_too_strong_is_named(tmp_path, seed):
    changes = {"loss": "hinge", "penalties": (), "generator_lr": 5e-5}
    found, _ = run(tmp_path, seed, generator=Beside(), **changes)
    assert "critic too strong" in found and "critic too weak" not in found, found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_critic_that_is_too_weak_is_named(tmp_path, seed):
    found, _ = run(tmp_path, seed, discriminator_lr=0.0)
    assert "critic too weak" in found and "critic too strong" not in found, found


@pytest.mark.parametrize("seed", SEEDS)
def test_dead_gradients_are_named(tmp_path, seed):
    changes = {
        "loss": "minimax",
        "penalties": (),
        "generator_lr": 1e-4,
        "discriminator_lr": 0.02,
        "discriminator_steps": 4,
    }
    found, _ = run(tmp_path, seed, steps=240, generator=Far(), **changes)
    assert "dead gradients" in found and "frozen generator" not in found, found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_penalty_that_asks_in_vain_is_named(tmp_path, seed):
    changes = {"loss": "wasserstein", "penalties": ("WGANGP(weight=0.001)",), "discriminator_lr": 0.01}
    found, _ = run(tmp_path, seed, **changes)
    assert "its target is 1" in found["steep penalty"].text, found


@pytest.mark.parametrize("seed", SEEDS)
def test_a_generator_whose_rate_is_scheduled_to_nothing_is_not_frozen(tmp_path, seed):
    found, _ = run(tmp_path, seed, schedules=("Schedule('generator_lr', to=0.0, steps=100)",))
    assert "frozen generator" not in found, found


def test_spectral_norms_that_grow_are_named():
    rows = [{"step": 10 * i, "watch_spectral_norm": 4.0 * 2**i} for i in range(6)]
    calm = {"watch_auc": 0.7, "watch_logit_distance": 1.0, "watch_sample_distance": 1.0, "watch_g_grad": 1.0}
    found = monitor.findings([row | calm for row in rows])
    assert [f.name for f in found] == ["growing spectral norms"] and "is 128 and grows, for 20 steps" in found[0].text
    assert not monitor.findings([row | calm | {"watch_spectral_norm": 200.0} for row in rows])


def test_the_largest_spectral_norm_is_that_of_svd():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 4))
    with torch.no_grad():
        network[0].weight[0] *= 5
        network[2].weight /= 5
    exact = torch.linalg.matrix_norm(network[0].weight.flatten(1), 2).item()
    assert monitor.largest_spectral_norm(network).item() == pytest.approx(exact, rel=1e-3)
    assert monitor.largest_spectral_norm(nn.Sequential(spectral_norm(nn.Linear(4, 4)))) == 0


def test_a_run_stops_at_a_plateau_and_keeps_its_best_state(tmp_path, monkeypatch):
    monkeypatch.setattr(Stop, "IMAGES", 80)
    torch.manual_seed(0)
    pair = models.create("mlp", features=2, z_dim=2, width=8)
    recipe = Recipe(generator_lr=0.0, batch_size=8)
    intervals = {"log_every": 5, "sample_every": 2, "checkpoint_every": 1000}
    trainer = Trainer(*pair, recipe, ring(), run_dir=tmp_path, progress=False, stop_when="plateau", **intervals)
    trainer.fit(100)
    assert trainer.state.step == 12 and trainer.best_step == 2
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["step_00000002"]
    assert (tmp_path / "checkpoints" / "step_00000012").exists()


def stopping(folder, recipe, stop_when, generator=None):
    torch.manual_seed(0)
    pair = models.create("mlp", features=2, z_dim=2, width=48)
    intervals = {"log_every": 20, "sample_every": 40, "checkpoint_every": 10_000}
    networks = generator or pair.generator, pair.discriminator
    return Trainer(
        *networks, recipe, ring(), run_dir=folder, progress=False, device="cpu", stop_when=stop_when, **intervals
    )


def test_the_gap_ends_a_run_where_it_has_stopped_falling(tmp_path, monkeypatch):
    monkeypatch.setattr(GapStop, "REPEATS", 2)
    monkeypatch.setattr(Stop, "IMAGES", 64 * 200)
    trainer = stopping(tmp_path, Recipe(**GOOD), "gap")
    trainer.fit(3000)
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "watch_gap" in row]
    gaps = [row["watch_gap"] for row in rows]
    best = trainer.best_step
    assert 80 <= best < trainer.state.step < 3000 and gaps[0] > 10 * min(gaps), gaps
    assert [p.name for p in (tmp_path / "best").iterdir()] == [f"step_{40 * (gaps.index(min(gaps)) + 1):08d}"]


def test_measuring_the_gap_changes_nothing_of_the_run(tmp_path):
    recipe = Recipe(**GOOD)
    trainers = [stopping(tmp_path / name, recipe, name) for name in ("gap", "never")]
    for trainer in trainers:
        trainer.fit(80)
    for a, b in zip(*(t.state.generator.parameters() for t in trainers), strict=True):
        assert torch.equal(a, b)


def test_the_wasserstein_estimate_is_logged_where_it_is_one_and_ends_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(Stop, "IMAGES", 64 * 200)
    lipschitz = Recipe(loss="wasserstein", penalties=("WGANGP(weight=1.0)",), discriminator_steps=3, generator_lr=1e-9)
    trainer = stopping(tmp_path / "yes", lipschitz, "wasserstein")
    trainer.fit(3000)
    rows = [row for row in read_metrics(tmp_path / "yes" / "metrics.jsonl") if "watch_auc" in row]
    for row in rows:
        assert row["watch_wasserstein"] == pytest.approx(row["watch_d_real"] - row["watch_d_fake"], abs=1e-5)
    peak = max(rows, key=lambda row: row["watch_wasserstein"])["step"]
    assert peak <= trainer.best_step < trainer.state.step < 3000
    stopping(tmp_path / "no", Recipe(**GOOD), "never").fit(40)
    assert not any("watch_wasserstein" in row for row in read_metrics(tmp_path / "no" / "metrics.jsonl"))


@pytest.mark.parametrize(
    "recipe, stop_when, words",
    [
        ({}, "now", "stop_when must be one of plateau, gap, wasserstein, never; got 'now'"),
        ({}, "wasserstein", "needs a critic that estimates that distance"),
        ({"loss": "wasserstein"}, "wasserstein", "needs a critic that estimates that distance"),
        ({"loss": "wasserstein"}, "gap", 'measures losses with a bounded payoff; try stop_when="wasserstein"'),
        ({"pack": 2}, "gap", "measures critics of single samples"),
    ],
)
def test_a_criterion_that_means_nothing_in_a_run_is_refused(tmp_path, recipe, stop_when, words):
    with pytest.raises(ValueError, match=words):
        stopping(tmp_path, Recipe(**recipe), stop_when)


def test_the_gap_is_refused_for_networks_with_conditions(tmp_path):
    generator = Constant()
    generator.classes = 6
    with pytest.raises(ValueError, match='measures networks without conditions; try stop_when="plateau"'):
        stopping(tmp_path, Recipe(), "gap", generator)
