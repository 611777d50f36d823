"""The protocol of callbacks, and the callbacks for other tools."""

import sys
import types

import pytest
import torch

import fastgan
from fastgan import Recipe, Trainer
from fastgan.training import Callback, MLflow, TensorBoard, WandB
from fastgan.training.run.metrics_log import read_metrics

POINTS = torch.randn(80, 2, generator=torch.Generator().manual_seed(0))


class Noting(Callback):
    def __init__(self, stop_at=None):
        self.events, self.rows, self.stop_at = [], [], stop_at

    def on_start(self, trainer):
        self.events.append(f"start {trainer.state.step} of {trainer.steps}")

    def on_step(self, trainer, row):
        self.rows.append(dict(row))
        self.events.append(f"step {trainer.state.step}")
        if trainer.state.step == self.stop_at:
            trainer.stop()

    def on_file(self, trainer, path):
        self.events.append(path.name)

    def on_end(self, trainer):
        self.events.append("end")


def make(toy, run_dir, *callbacks, **options):
    options = {"log_every": 2, "sample_every": 100, "checkpoint_every": 3, "progress": False} | options
    recipe = Recipe(batch_size=8)
    return Trainer(*toy.pair(), recipe, POINTS, run_dir=run_dir, device="cpu", callbacks=callbacks, **options)


def test_a_callback_sees_the_run_and_each_row_of_the_log_whole(toy, tmp_path):
    noting = Noting()
    make(toy, tmp_path, noting).fit(4)
    files = "step_00000004.png step_00000004"
    expected = ["start 0 of 4", "step 1", "step 2", "step_00000003", "step 3", *files.split(), "step 4", "end"]
    assert noting.events == expected
    assert noting.rows[0] == noting.rows[2] == {}
    assert [noting.rows[1], noting.rows[3]] == read_metrics(tmp_path / "metrics.jsonl")
    assert list(noting.rows[1]) == ["step", "d_loss", "d_real", "d_fake", "g_loss", "steps_per_second"]


def test_a_callback_may_end_the_run_which_then_is_saved_and_can_go_on(toy, tmp_path):
    trainer = make(toy, tmp_path, Noting(stop_at=2))
    trainer.fit(10)
    assert trainer.state.step == 2 and (tmp_path / "checkpoints" / "step_00000002").exists()
    trainer.fit(5)
    assert trainer.state.step == 5


def test_callbacks_end_after_an_error_too(toy, tmp_path):
    class Failing(Callback):
        def on_step(self, trainer, row):
            raise RuntimeError("of the user")

    noting = Noting()
    with pytest.raises(RuntimeError, match="of the user"):
        make(toy, tmp_path, noting, Failing()).fit(4)
    assert noting.events == ["start 0 of 4", "step 1", "end"]


def test_tensorboard_has_the_logs_numbers_and_the_pictures(toy, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    make(toy, tmp_path, TensorBoard()).fit(4)
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rows = read_metrics(tmp_path / "metrics.jsonl")
    events = found.Scalars("d_loss")
    assert [event.step for event in events] == [row["step"] for row in rows]
    assert [event.value for event in events] == pytest.approx([row["d_loss"] for row in rows])
    assert [event.step for event in found.Images("samples")] == [4]
    assert "_hparams_/experiment" in found.PluginTagToContent("hparams")


def test_a_progress_bar_counts_to_the_end(toy, tmp_path, capsys):
    make(toy, tmp_path, progress=True).fit(4)
    assert "4/4" in capsys.readouterr().err


def test_the_distance_of_a_plateau_is_measured_in_the_extractor_that_is_named(tmp_path, monkeypatch):
    calls = []

    class Counted(torch.nn.Flatten):
        def forward(self, x):
            calls.append(len(x))
            return super().forward(x)

    module = types.ModuleType("my_features")
    module.make = Counted
    monkeypatch.setitem(sys.modules, "my_features", module)
    images = torch.rand(80, 1, 16, 16) * 2 - 1
    pair = fastgan.models.create("dcgan", channels=1, resolution=16, width=4, z_dim=4)
    options = {"sample_every": 1, "progress": False, "stop_when": "plateau", "extractor": "my_features:make"}
    trainer = Trainer(*pair, Recipe(batch_size=4), images, run_dir=tmp_path, **options)
    trainer.fit(1)
    assert calls and trainer.rows[-1]["watch_kernel_distance"] > 0
    with pytest.raises(ValueError, match="extractor must be"):
        Trainer(*pair, Recipe(batch_size=4), images, run_dir=tmp_path / "other", extractor="vgg")


class StandIn(types.ModuleType):
    """A tracker's module that keeps each call: (name, arguments, keywords)."""

    def __init__(self):
        super().__init__("stand_in")
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments, **keywords):
            self.calls.append((name, arguments, keywords))
            return self

        return call

    def of(self, name):
        return [(arguments, keywords) for called, arguments, keywords in self.calls if called == name]


def test_weights_and_biases_gets_the_log_the_recipe_and_the_pictures(toy, tmp_path, monkeypatch):
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)
    make(toy, tmp_path, WandB("mine", mode="offline")).fit(4)
    ((_, started),) = module.of("init")
    assert started["project"] == "mine" and started["mode"] == "offline" and started["config"]["batch_size"] == 8
    logged = [keywords["step"] for (values,), keywords in module.of("log") if "d_loss" in values]
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert logged == [row["step"] for row in rows]
    assert {name for (values,), _ in module.of("log") for name in values} >= {"samples", "steps_per_second"}
    assert module.of("Image") == [((str(tmp_path / "samples" / "step_00000004.png"),), {})]
    assert module.calls[-1][0] == "finish"


def test_mlflow_gets_the_log_the_recipe_and_the_pictures(toy, tmp_path, monkeypatch):
    module = StandIn()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    make(toy, tmp_path, MLflow("mine", run_name="first")).fit(4)
    assert module.of("set_experiment") == [(("mine",), {})] and module.of("start_run") == [((), {"run_name": "first"})]
    assert module.of("log_params")[0][0][0]["loss"] == "hinge"
    rows = read_metrics(tmp_path / "metrics.jsonl")
    logged = [(values["d_loss"], keywords["step"]) for (values,), keywords in module.of("log_metrics")]
    assert logged == [(row["d_loss"], row["step"]) for row in rows]
    assert module.of("log_artifact") == [((str(tmp_path / "samples" / "step_00000004.png"), "samples"), {})]
    assert module.calls[-1][0] == "end_run"


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ModuleNotFoundError, match="wandb is not installed: pip install wandb"):
        WandB()


def test_a_notebook_shows_curves_and_samples_while_it_trains(toy, tmp_path, monkeypatch):
    module, shown = StandIn(), []
    module.HTML = shown.append
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    make(toy, tmp_path, progress=True, sample_every=2).fit(4)
    assert module.of("display")[0][1] == {"display_id": True} and len(module.of("update")) == 3
    assert 'alt="Samples at step 2"' in shown[1] and 'alt="Curves at step 4"' in shown[-1]
    make(toy, tmp_path / "quiet").fit(2)
    assert len(module.of("display")) == 1


def test_fid_is_measured_during_training_and_decides_what_is_best(tmp_path, monkeypatch):
    module = types.ModuleType("my_features")
    module.make = lambda: torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())
    monkeypatch.setitem(sys.modules, "my_features", module)
    images = torch.rand(80, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    pair = fastgan.models.create("dcgan", channels=1, resolution=16, width=4, z_dim=4)
    options = {"sample_every": 3, "log_every": 5, "progress": False, "extractor": "my_features:make"}
    trainer = Trainer(
        *pair, Recipe(batch_size=4), images, run_dir=tmp_path, evaluate_every=2, evaluate_count=64, **options
    )
    trainer.fit(4)
    fids = {row["step"]: row["fid"] for row in trainer.rows if "fid" in row}
    assert set(fids) == {2, 4}
    lowest = min(fids, key=fids.get)
    assert [path.name for path in (tmp_path / "best").iterdir()] == [f"step_{lowest:08d}"]

    extractor = fastgan.metrics.extractor("my_features:make")
    order = torch.randperm(80, generator=fastgan.randomness.generator(0, "evaluation reals"))
    z = fastgan.models.sampling.latents(trainer.state.average, 64, 0, "evaluation")
    fake = fastgan.models.sampling.sample(trainer.state.average, z)
    expected = fastgan.metrics.frechet_distance(
        extractor.features(images[order[:64]]).values, extractor.features(fake).values
    )
    assert fids[4] == pytest.approx(expected, rel=1e-9)
    assert trainer.rows[-1]["fid_by"] == f"{extractor.identity} N = 64 / 64"


def test_fid_during_training_needs_images_and_an_extractor_for_them(toy, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="evaluate_every needs an extractor: inception:FILE"):
        make(toy, tmp_path, evaluate_every=2)
    module = types.ModuleType("my_features")
    module.make = torch.nn.Flatten
    monkeypatch.setitem(sys.modules, "my_features", module)
    with pytest.raises(ValueError, match=r"samples must be images .*, got shape \(1, 2\)"):
        make(toy, tmp_path, evaluate_every=2, extractor="my_features:make")
    with pytest.raises(ValueError, match="evaluate_every must be at least 1; got 0"):
        make(toy, tmp_path, evaluate_every=0, extractor="my_features:make")
    module.make = lambda: torch.nn.AvgPool2d(4)
    pair = fastgan.models.create("dcgan", channels=1, resolution=16, width=4, z_dim=4)
    with pytest.raises(ValueError, match="evaluate_every needs at least 2 images; got 1"):
        options = {"evaluate_every": 1, "evaluate_count": 1, "extractor": "my_features:make"}
        Trainer(*pair, Recipe(batch_size=4), torch.rand(80, 1, 16, 16) * 2 - 1, run_dir=tmp_path, **options)
