"""Sentences that follow from rows of a log."""

import json

import pytest
import torch
from torch import nn

from fastgan import Recipe, Trainer, monitor
from fastgan.data import TensorData
from fastgan.monitor.findings import RULES, advice
from fastgan.monitor.observer import Watch
from fastgan.training.callbacks.pictures import Pictures
from fastgan.training.run import metrics_log
from fastgan.training.step.running_means import Diverged
from fastgan.training.step.state import TrainState

CALM = {"watch_auc": 0.7, "watch_logit_distance": 1.0, "watch_sample_distance": 1.0, "watch_g_grad": 1.0}
CALM |= {"watch_d_real": 1.0, "watch_d_fake": 0.0, "watch_diversity": 1.0, "watch_diversity_low": 0.9}
CALM |= {"watch_coverage": 0.9, "watch_coverage_expected": 0.96}


def found(recipe=None, **seen):
    rows = [{"step": 100 * i} | CALM | seen for i in range(1, 7)]
    return {finding.name: finding.text for finding in monitor.findings(rows, recipe)}


def test_a_diverged_run_does_not_miss_modes():
    far = {"watch_modes_missing": list(range(25)), "watch_modes": 25, "watch_coverage": 0.0, "watch_auc": 1.0}
    assert set(found(**far)) == {"missing modes", "critic too strong"}
    texts = found(watch_diversity=70.0, **far)
    assert list(texts) == ["diverged"]
    assert "70 times as far apart as real ones, for 500 steps: try a lower generator_lr" in texts["diverged"]


def test_saturated_noise_is_not_a_collapse():
    noise = {"watch_diversity": 0.1, "watch_saturated": 1.0}
    assert list(found(watch_saturated_real=0.3, **noise)) == ["saturated samples"]
    assert list(found(watch_saturated_real=1.0, **noise)) == ["collapse"]  # black and white drawings


def test_samples_that_are_not_finite_are_reported_at_once():
    rows = [{"step": 1} | CALM, {"step": 2, "watch_not_finite": 3, "watch_samples": 64}]
    (finding,) = monitor.findings(rows)
    assert finding.text.startswith("3 of 64 generated samples hold NaN or infinity at step 2: ")
    assert not monitor.findings([*rows, {"step": 3} | CALM])


def test_advice_leaves_out_what_the_recipe_has():
    huge = {"watch_logit_distance": 1e4}
    plain = Recipe(spectral_norm="none")
    normalized = Recipe(spectral_norm="both", penalties=("R1(gamma=1.0)",))
    assert "try spectral norm, R1, WGANGP, or a lower discriminator_lr" in found(plain, **huge)["exploding critic"]
    assert found(normalized, **huge)["exploding critic"].endswith(": try WGANGP, or a lower discriminator_lr")
    assert "packing" in found(plain, watch_diversity=0.1)["collapse"]
    packed = found(Recipe(pack=2, batch_size=32), watch_diversity=0.1)["collapse"]
    assert "packing" not in packed and "minibatch stddev" in packed


def test_every_remedy_can_be_checked_on_a_recipe():
    everything = Recipe(
        loss="relativistic_paired",
        penalties=("R1(gamma=1.0)", "R2(gamma=1.0)"),
        spectral_norm="both",
        pack=2,
        batch_size=32,
        augment="translation",
    )
    for name, _, _, remedies in RULES:
        kept, before = advice(remedies, everything), advice(remedies)
        assert kept and len(kept) <= len(before), name
        assert not {"R1", "spectral norm", "packing (pack=2)", "RpGAN + R1 + R2"} & set(kept[6:].split(", ")), name


class Spoilt(nn.Module):
    """Its running statistics are used in evaluation mode alone: training does not notice NaN in them."""

    z_dim, classes, shape = 4, None, (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 64), nn.BatchNorm1d(64)

    def forward(self, z):
        return self.norm(self.linear(z)).tanh().view(-1, 1, 8, 8)


def spoilt_run(folder, spoil):
    generator = Spoilt()
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    trainer = Trainer(
        generator,
        critic,
        Recipe(batch_size=8, spectral_norm="none"),
        torch.rand(100, 1, 8, 8) * 2 - 1,
        run_dir=folder,
        progress=False,
        log_every=1,
        sample_every=2,
        checkpoint_every=100,
    )
    trainer.fit(2)
    with torch.no_grad():
        spoil(trainer.state)
    return trainer


@pytest.mark.parametrize("which", ["generator", "average"])
def test_nan_in_a_buffer_stops_a_run_by_name(tmp_path, monkeypatch, which):
    monkeypatch.setattr(Pictures, "draw", lambda *_: None)
    trainer = spoilt_run(tmp_path, lambda state: state.networks()[which].norm.running_var.fill_(torch.nan))
    with pytest.raises(Diverged, match=r"buffer norm\.running_var of the (generator|average) is not finite"):
        trainer.fit(6)


class Overflowing(nn.Module):
    """Finite weights, and infinity for half of the latents."""

    z_dim, classes, shape = 4, None, (1, 8, 8)

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 64)

    def forward(self, z):
        return (self.linear(z) + torch.where(z[:, :1] > 0, torch.inf, 0.0)).view(-1, 1, 8, 8)


def watch(generator, images):
    critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    recipe = Recipe(batch_size=8, spectral_norm="none")
    state = TrainState.create(generator, critic, recipe)
    return Watch(recipe, TensorData(images), state)(state)


def test_an_observation_counts_samples_that_are_not_finite():
    seen = watch(Overflowing(), torch.rand(100, 1, 8, 8) * 2 - 1)
    assert set(seen) == {"watch_not_finite", "watch_samples"}
    assert seen["watch_samples"] == 100 and 25 <= seen["watch_not_finite"] <= 75


def test_an_observation_is_plain_json_also_of_equal_images():
    seen = watch(Spoilt(), torch.full((100, 1, 8, 8), 0.5))
    assert "watch_auc" in seen and json.loads(json.dumps(seen, allow_nan=False)) == seen


def test_an_observation_does_not_parse_the_log(tmp_path, monkeypatch):
    parsed = []
    monkeypatch.setattr(metrics_log, "read_metrics", lambda path: parsed.append(path) or [])
    monkeypatch.setattr(Pictures, "_draw_attention", lambda *_: None)
    trainer = spoilt_run(tmp_path, lambda state: None)
    assert parsed == [] and [row["step"] for row in trainer.rows] == [1, 2]
    assert (tmp_path / "curves.png").exists()


def test_the_first_tensor_that_is_not_finite_is_named():
    networks = {"generator": nn.Linear(2, 2), "critic": nn.BatchNorm1d(2)}
    assert monitor.not_finite(networks) is None
    networks["critic"].running_mean[1] = torch.inf
    assert monitor.not_finite(networks) == "buffer running_mean of the critic"
    with torch.no_grad():
        networks["generator"].weight[0, 0] = torch.nan
    assert monitor.not_finite(networks) == "parameter weight of the generator"
