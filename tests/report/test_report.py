"""The report of a run: what it reads, what it leaves out, what it shows."""

import json
import re

import pytest
import torch
from markupsafe import escape
from torch import nn

import fastgan
from fastgan import Recipe, Trainer
from fastgan.cli import BadInput, main
from fastgan.nn.attention_maps import attention_layers, attention_maps
from fastgan.report import record, render, save_report
from fastgan.report.charts import charts
from fastgan.report.run_record import held
from fastgan.report.views import POSITIONS, _great_circle, views
from fastgan.training import Callback
from fastgan.training.callbacks.report import NoReport

POINTS = torch.randn(80, 2, generator=torch.Generator().manual_seed(0))


def fit(run_dir, *callbacks, steps=4, **options):
    pair = fastgan.models.create("mlp", features=2, width=4, z_dim=2)
    options = {"log_every": 1, "sample_every": 9, "progress": False} | options
    trainer = Trainer(
        *pair, Recipe(batch_size=8), POINTS, run_dir=run_dir, device="cpu", callbacks=callbacks, **options
    )
    trainer.fit(steps)


def drawn(page):
    """What the page's script is given."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@pytest.mark.reports
def test_a_training_ends_with_its_page_unless_it_is_switched_off(tmp_path):
    fit(tmp_path / "with")
    page = (tmp_path / "with" / "report.html").read_text()
    assert {"Losses", "Speed"} <= {chart["title"] for chart in drawn(page)["charts"]}
    assert torch.__version__ in page and "Not shown" in page
    fit(tmp_path / "without", report=False)
    assert not (tmp_path / "without" / "report.html").exists()
    assert json.loads((tmp_path / "without" / "environment.json").read_text())["device"] == "cpu"


@pytest.mark.reports
def test_a_run_that_fails_has_a_page_and_a_page_that_fails_has_a_run(tmp_path, monkeypatch):
    class Failing(Callback):
        def on_step(self, trainer, row):
            if trainer.state.step == 3:
                raise RuntimeError("of the user")

    with pytest.raises(RuntimeError, match="of the user"):
        fit(tmp_path / "crashed", Failing())
    losses = drawn((tmp_path / "crashed" / "report.html").read_text())["charts"][0]
    assert losses["curves"][0]["x"] == [1, 2, 3]

    def fail(runs, path):
        raise OSError("no\nspace")

    monkeypatch.setattr(fastgan.report, "save_report", fail)
    with pytest.warns(NoReport, match=r"^report\.html is not written: no space$"):
        fit(tmp_path / "whole")
    assert len(list((tmp_path / "whole" / "checkpoints").iterdir())) == 1


def test_a_log_with_nan_and_a_damaged_line_is_enough(tmp_path):
    rows = [{"step": step, "d_loss": 1 / step, "g_loss": float("nan") if step == 2 else 1.0} for step in range(1, 4)]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "metrics.jsonl").write_text("\n".join([lines[0], "{cut", lines[1], '{"no": "step"}', lines[2]]))
    found = record(tmp_path)
    assert found.missing["curves"] == "Line 2 and 1 more of metrics.jsonl cannot be read. The page is without it."
    assert found.rows[0] == rows[0] and found.last_step == 3 and len(found.rows) == 3
    page = render(found)
    discriminator, generator = drawn(page)["charts"][0]["curves"]
    assert discriminator["y"] == [1, 1 / 2, 1 / 3] and generator["y"] == [1, None, 1]
    assert found.missing["generator"].startswith("The run has no checkpoint")
    assert all(str(escape(sentence)) in page for sentence in found.missing.values())


def test_other_parts_are_there_when_one_is_damaged(points, tmp_path):
    for name in ("metrics.jsonl", "recipe.yaml", "setup.yaml"):
        (tmp_path / name).write_bytes((points / name).read_bytes())
    (tmp_path / "setup.yaml").write_text("flags: 3")
    (tmp_path / "environment.json").write_text("{")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "step_00000002.png").write_text("not a picture")
    found = record(tmp_path)
    assert found.recipe["generator_lr"] == 0.5 and len(found.rows) == 4
    assert {"setup", "environment", "generator"} <= set(found.missing)
    assert drawn(render(found))["runs"][0]["pictures"] == []


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        record(tmp_path)
    assert main(["report", str(tmp_path)]) != 0 and "holds no run" in capsys.readouterr().err
    with pytest.raises(BadInput, match="name the folder of a run"):
        fastgan.cli.report.main([])


def test_nothing_that_a_run_says_becomes_markup(tmp_path):
    evil = "</script><script>alert(1)</script>"
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "d_loss": 1.0, evil: 2.0}))
    (folder / "environment.json").write_text(json.dumps({evil: evil}))
    (folder / "setup.yaml").write_text(json.dumps({"flags": {"data": evil}, "model": {"name": evil}}))
    page = render(folder)
    assert "alert(1)" in page and "<script>alert" not in page and "<img src=x" not in page
    assert evil in drawn(page)["charts"][1]["curves"][0]["name"]


def test_the_recipe_is_shown_against_the_named_one(points):
    found = record(points)
    assert found.origin == "dcgan" and found.changed["generator_lr"] == (2e-4, 0.5)
    assert "generator_lr" in found.changed and "optimizer" not in found.changed
    page = render(found)
    assert "<mark>0.5</mark>" in page and "<td>0.0002</td>" in page


def test_runs_side_by_side_begin_with_what_differs(points, attending):
    page = render([points, attending])
    table = page[page.index("What differs") : page.index('id="recipe"')]
    assert "generator lr" in table and "R1(" in table and "betas" not in table
    assert {curve["run"] for curve in drawn(page)["charts"][0]["curves"]} == {0, 1}


def observed(step, auc, missing):
    common = {"watch_logit_distance": 1.0, "watch_sample_distance": 1.0, "watch_g_grad": 1.0, "watch_classes": 10}
    return common | {"step": step, "watch_auc": auc, "watch_classes_missing": missing}


def test_a_finding_holds_from_its_first_observation_to_its_last():
    missing = [3, 2, 1, 1, 0, 0, 4, 4, 4]
    rows = [observed(100 * (i + 1), 0.7, count) for i, count in enumerate(missing)]
    assert [(f.name, f.first, f.last) for f in held(rows, None)] == [
        ("missing classes", 100, 400),
        ("missing classes", 700, 900),
    ]
    covered = next(c for c in charts([record_of(rows)]) if c["title"] == "Classes covered")
    assert [curve["y"][:3] for curve in covered["curves"]] == [[10, 10, 10], [7, 8, 9]]


def record_of(rows):
    return fastgan.report.Record("run", rows=rows)


def test_long_curves_are_averaged(monkeypatch):
    monkeypatch.setattr("fastgan.report.charts.MOST", 2)
    rows = [{"step": step, "d_loss": float(step)} for step in range(1, 5)]
    curve = charts([record_of(rows)])[0]["curves"][0]
    assert curve["x"] == [2, 4] and curve["y"] == [1.5, 3.5]


class Copies(nn.Module):
    """Returns image z[0] of its images, plus noise of a size."""

    z_dim, classes = 4, None

    def __init__(self, images, noise):
        super().__init__()
        self.images, self.noise = nn.Parameter(images), noise

    def forward(self, z):
        found = self.images[(z[:, 0].abs() * 1000).long() % len(self.images)]
        return found + self.noise * torch.randn(found.shape, generator=torch.Generator().manual_seed(0))


def test_copies_of_training_images_have_distance_zero():
    images = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    data = fastgan.data.as_data(images)
    near = views(Copies(images, 0.0), 1, data).nearest
    assert max(near.distances) < 1e-3 * near.typical and torch.allclose(near.images, near.real)
    apart = (images.flatten(1)[:, None] - images.flatten(1)).square().mean(2).sqrt().fill_diagonal_(9)
    assert near.typical == pytest.approx(apart.min(1).values.median().item(), rel=1e-4) and near.searched == 64
    far = views(Copies(images, 0.5), 1, data).nearest
    assert min(far.distances) > 0.2 * near.typical


def test_what_takes_too_long_is_left_out_with_a_sentence():
    images = torch.rand(1024, 1, 16, 16) * 2 - 1
    seen = views(Copies(images, 0.0), 1, fastgan.data.as_data(images), patience=0.0)
    assert seen.walk is None and seen.missing["walk"].startswith("A walk takes too long here")
    assert seen.nearest.searched == 512


def test_the_walk_is_a_closed_path_on_the_sphere():
    a, b = torch.randn(2, 3, 8, dtype=torch.float64).unbind()
    b = b * (a.norm(dim=1) / b.norm(dim=1))[:, None]
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)[:, None, None]
    way = _great_circle(a, b, t)
    torch.testing.assert_close(way[0], a)
    torch.testing.assert_close(way[2], b)
    torch.testing.assert_close(way.norm(dim=2), a.norm(dim=1).expand(3, 3))


def test_the_attention_of_the_page_is_that_of_the_generator(attending):
    found = record(attending).views
    generator = attending.state.average
    assert found.step == 4 and found.walk.shape[1:] == (8, 1, 16, 16)
    ((name, maps),) = found.attention.maps.items()
    z = fastgan.models.sampling.latents(generator, 6, 0, "report attention")
    expected = attention_maps(generator, [(10, 3)], (16, 16), z)[name][0]
    assert list(attention_layers(generator)) == [name] and POSITIONS == 16
    torch.testing.assert_close(maps[:, 10, 3], expected / expected.amax((1, 2), keepdim=True))


def test_the_command_reads_the_newest_checkpoint(points, tmp_path, capsys):
    assert main(["report", str(points), "--out", str(tmp_path / "page.html")]) == 0
    assert "points: The run makes no images" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert len(drawn(page)["runs"][0]["pictures"]) == 2 and "mlp on ring, 4 steps" in page


def test_a_notebook_shows_the_page_in_a_frame(points):
    pytest.importorskip("IPython")
    shown = fastgan.report.show(points)
    assert shown.data.count("<iframe") == 1 and "&lt;!doctype html&gt;" in shown.data
    assert 'sandbox="allow-scripts"' in shown.data and "<script" not in shown.data


def test_a_page_needs_a_run(tmp_path):
    with pytest.raises(ValueError, match="at least one run"):
        save_report([], tmp_path / "page.html")
