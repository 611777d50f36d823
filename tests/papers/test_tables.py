"""A short version of each paper table: the same code with fewer steps, and criteria that can fail."""

import dataclasses
import importlib
import math
from types import SimpleNamespace

import pytest
import torch
from matplotlib.figure import Figure

from benchmarks.papers import (
    clip_versus_penalty,
    duality_gap,
    fashion_benchmark,
    few_garments,
    pacgan_digits,
    pacgan_grid,
    relativistic_digits,
    spectral_norm_works,
    table,
    ttur_saddle,
    unrolled_ring,
    wasserstein_estimate,
)
from fastgan import Recipe, metrics

FILES = sorted(path.stem for path in table.RESULTS.parent.glob("*.py"))
TABLES = [m for m in (importlib.import_module(f"benchmarks.papers.{name}") for name in FILES) if hasattr(m, "TABLE")]


def rows_of(table, configurations, seeds, **options):
    return [
        {"configuration": name, "seed": seed, **table.run(name, seed, **options)}
        for name in configurations
        for seed in seeds
    ]


def planted(columns):
    """Rows of {configuration: {name: values}}."""
    return [
        {"configuration": configuration, "seed": seed, **{name: v[seed] for name, v in values.items()}}
        for configuration, values in columns.items()
        for seed in range(len(next(iter(values.values()))))
    ]


def verdicts(table, rows):
    return [criterion.passed for criterion in table.criteria(rows)]


def test_two_time_scales_beat_one_on_the_saddle():
    rows = rows_of(ttur_saddle, ttur_saddle.RATES, range(3))
    assert verdicts(ttur_saddle, rows) == [True, True, True]
    for row in rows:
        row["distance"] = 0.25
    assert verdicts(ttur_saddle, rows) == [True, False, False]


def test_clipping_kills_gradients_and_the_penalty_does_not():
    configurations = ("clip 0.01", "clip 0.001", "penalty 10")
    rows = rows_of(clip_versus_penalty, configurations, [7], steps=40)
    slopes = {row["configuration"]: row["decades_per_layer"] for row in rows}
    assert slopes["clip 0.01"] < -0.5
    assert slopes["clip 0.001"] < -1
    assert abs(slopes["penalty 10"]) < 0.05


def test_slope_is_the_decades_from_layer_to_layer():
    assert clip_versus_penalty.slope([1.0, 10.0, 100.0, 1000.0]) == pytest.approx(1)
    assert clip_versus_penalty.slope([2.0, 2.0, 2.0]) == pytest.approx(0, abs=1e-12)


def test_spectral_norm_keeps_its_critic_within_lipschitz_one():
    normalized, clipped = rows_of(spectral_norm_works, ("spectral norm", "clipping"), [7], steps=150)
    assert normalized["fixed_matrix_error"] < 1e-6
    assert normalized["sigma_error"] < 0.1
    assert normalized["lipschitz"] <= 1.01
    assert clipped["stable_rank"] < normalized["stable_rank"]


def test_the_critics_estimate_falls_with_the_distance():
    (row,) = rows_of(wasserstein_estimate, ["WGAN-GP"], [7], steps=100)
    assert len(row["estimates"]) == len(row["distances"]) == 2
    assert all(value > 0 for value in row["distances"])
    assert wasserstein_estimate.spearman([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]) == pytest.approx(1)
    assert wasserstein_estimate.spearman([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1)


def test_packing_runs_and_its_criteria_tell_the_papers_result_from_none():
    rows = rows_of(pacgan_grid, pacgan_grid.CONFIGURATIONS, [7], steps=60)
    assert all(0 <= row["modes"] <= 25 for row in rows)
    good = planted({
        "GAN": {"modes": [12.0] * 10, "reverse_kl": [1.3] * 10},
        "PacGAN2": {"modes": [24.0] * 10, "reverse_kl": [0.1] * 10},
    })  # fmt: skip
    assert verdicts(pacgan_grid, good) == [True, True, True]
    same = planted({name: {"modes": [12.0] * 10, "reverse_kl": [1.3] * 10} for name in pacgan_grid.CONFIGURATIONS})
    assert verdicts(pacgan_grid, same) == [False, False, False]


def test_the_classifier_of_digits_passes_its_controls():
    rows = rows_of(pacgan_digits, pacgan_digits.CONTROLS, [0], steps=0)
    weak = {f"weak critic, {n}": {"modes": [m] * 10, "reverse_kl": [k] * 10} for n, m, k in
            (("GAN", 400, 3.0), ("PacGAN2", 600, 2.0))}  # fmt: skip
    assert verdicts(pacgan_digits, rows + planted(weak)) == [True] * 5
    assert pacgan_digits.held_out_accuracy() > 0.95
    (trained,) = rows_of(pacgan_digits, ["weak critic, PacGAN2"], [7], steps=20)
    assert 1 <= trained["modes"] <= 1000


def test_r3gans_loss_is_compared_with_each_half_of_it():
    rows = rows_of(relativistic_digits, relativistic_digits.CONFIGURATIONS, [7], steps=5)
    assert all(1 <= row["modes"] <= 1000 and row["reverse_kl"] > 0 for row in rows)
    relativistic_digits.figure(rows)(Figure())
    modes = {"GAN": [300, 320], "RpGAN": [500, 400], "GAN + R1 + R2": [600, 500], "RpGAN + R1 + R2": [900, 800]}
    columns = {name: {"modes": values, "reverse_kl": [1.0, 1.0]} for name, values in modes.items()}
    assert verdicts(relativistic_digits, planted(columns)) == [True] * 3
    columns["GAN"]["modes"] = [850, 850]
    assert verdicts(relativistic_digits, planted(columns)) == [False, True, True]


def test_the_duality_gap_is_measured_in_every_regime(monkeypatch):
    monkeypatch.setattr(duality_gap, "CHECKPOINTS", 1)
    rows = rows_of(duality_gap, ["diverging (1:15)"], [7], steps=5)
    assert rows[0]["steps_seen"] == [5]
    assert all(torch.tensor(row["perturbed_gap"]).isfinite() for row in rows)
    healthy, collapse, diverging = duality_gap.RATIOS
    right = {healthy: {"perturbed_gap": [0.1] * 5, "modes": [8.0] * 5},
             collapse: {"perturbed_gap": [4.0] * 5, "modes": [1.0] * 5},
             diverging: {"perturbed_gap": [2.0] * 5, "modes": [0.0] * 5}}  # fmt: skip
    right = {name: values | {"plain_gap": [0.2] * 5} for name, values in right.items()}
    assert verdicts(duality_gap, planted(right))[:3] == [True, True, True]
    right[healthy]["perturbed_gap"] = [4.0] * 5
    assert verdicts(duality_gap, planted(right))[:3] == [False, False, True]


@pytest.mark.parametrize("module", TABLES)
def test_a_table_says_what_it_is(module):
    table = dataclasses.asdict(module.TABLE)
    assert table["label"] in ("exact", "reduced", "own")
    assert table["name"] == module.__name__.rsplit(".", 1)[1]
    assert table["protocol"] and table["source"]


def test_the_unrolled_gradient_is_exact_and_the_copy_is_not():
    unrolled, copied = unrolled_ring.gradient_errors()
    assert unrolled < 1e-4 and copied > 0.01
    rows = rows_of(unrolled_ring, unrolled_ring.CONFIGURATIONS, [7], steps=10)
    assert all(0 <= row["modes"] <= row["ever"] <= 8 for row in rows)
    assert verdicts(unrolled_ring, rows) == [True, True, True]


def test_methods_on_garments_are_scored_by_a_named_extractor(monkeypatch):
    monkeypatch.setattr(fashion_benchmark, "IMAGES", 300)
    methods = ("growing", "NS-GAN")
    monkeypatch.setattr(fashion_benchmark, "METHODS", {name: fashion_benchmark.METHODS[name] for name in methods})
    rows = rows_of(fashion_benchmark, methods, [7], steps=6)
    for row in rows:
        assert row["extractor"] == metrics.fashion_cnn().identity
        assert all(math.isfinite(row[name]) for name in ("fid", "kid", "precision", "recall", "untrained_fid"))
    drawn = Figure()
    fashion_benchmark.figure(rows)(drawn)
    strips = [axis.images[0].get_array().shape for axis in drawn.axes if axis.images]
    assert strips == [(28, 8 * 28)] * 2
    good = planted({name: {"fid": [90.0] * 3, "untrained_fid": [800.0] * 3, "recall": [0.4] * 3}
                    for name in fashion_benchmark.METHODS})  # fmt: skip
    assert verdicts(fashion_benchmark, good) == [True, True]
    good[0]["fid"] = 400.0
    assert verdicts(fashion_benchmark, good) == [False, True]
    good[0]["fid"], good[1]["recall"] = 90.0, 0.1
    assert verdicts(fashion_benchmark, good) == [True, False]


def test_tricks_on_few_garments_are_scored_against_all_of_them(monkeypatch):
    for name, value in {"IMAGES": 300, "GARMENTS": 300, "UNSEEN": 50}.items():
        monkeypatch.setattr(few_garments, name, value)
    rows = rows_of(few_garments, (few_garments.CONTROL, *few_garments.TRICKS), [7], steps=4)
    assert rows[0]["fid"] == pytest.approx(0, abs=1e-3)  # of the 300, which are here all that it is compared with
    assert all(len(row["overfitting_over_time"]) == few_garments.MOMENTS for row in rows[1:])
    assert all(math.isfinite(row["overfitting"]) and math.isfinite(row["fid_last_weights"]) for row in rows[1:])
    few_garments.figure([{"steps": 4, **row} for row in rows])(Figure())
    values = {"fid": [50.0] * 3, "fid_last_weights": [60.0] * 3}
    helped = {name: values | {"overfitting": [0.2, 0.3, 0.2]} for name in few_garments.TRICKS}
    helped["nothing added"] = values | {"overfitting": [1.1, 0.9, 1.4]}
    assert verdicts(few_garments, planted(helped))[:2] == [True, True]
    helped["ADA"]["overfitting"] = [0.2, 0.95, 0.2]
    assert verdicts(few_garments, planted(helped))[:2] == [True, False]


class SeesThroughGarments(torch.nn.Module):
    """A critic whose logit is the mean of an image."""

    def forward(self, x):
        return x.mean((1, 2, 3))


def test_overfitting_is_nothing_where_unseen_garments_look_like_the_seen_ones(monkeypatch):
    monkeypatch.setattr(few_garments, "UNSEEN", 40)
    monkeypatch.setattr(few_garments, "draw", lambda *args, **kwargs: torch.full((40, 1, 28, 28), -1.0))
    state = SimpleNamespace(discriminator=SeesThroughGarments(), memory={})
    trainer = SimpleNamespace(recipe=Recipe(), state=state, device="cpu")
    seen, like_them, half_way = (torch.full((40, 1, 28, 28), value) for value in (1.0, 1.0, 0.0))
    assert few_garments.overfitting(trainer, seen[:20], like_them) == 0
    assert few_garments.overfitting(trainer, seen[:20], half_way) == 0.5
