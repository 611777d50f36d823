"""What a run does when the run diverges, is killed, or finds a damaged checkpoint."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from benchmarks import soak
from fastgan import Recipe, Trainer
from fastgan.training import Callback, Diverged, RunOptions
from fastgan.training.run import checkpoint
from fastgan.training.run.folder import SkippedCheckpoint
from fastgan.training.run.metrics_log import read_metrics

POINTS = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))


def make(toy, folder, *callbacks, **options):
    options = {"log_every": 4, "sample_every": 100, "checkpoint_every": 3, "progress": False, "report": False} | options
    recipe = Recipe(batch_size=8)
    return Trainer(*toy.pair(), recipe, POINTS, run_dir=folder, device="cpu", callbacks=callbacks, **options)


def kept(folder):
    """The newest checkpoint, and the log without the speed."""
    path = checkpoint.latest(folder / "checkpoints")
    rows = [{k: v for k, v in row.items() if k != "steps_per_second"} for row in read_metrics(folder / "metrics.jsonl")]
    return {file.name: file.read_bytes() for file in path.iterdir()}, rows


class Dies(Callback):
    """Ends a step with an error, before which nothing more is written than before a kill."""

    def __init__(self, at):
        self.at = at

    def on_step(self, trainer, row):
        if trainer.state.step == self.at:
            raise KeyboardInterrupt


def spoil(trainer, at, value=float("nan"), times=1):
    """In step `at`, so often, a gradient of the generator has this value; the losses stay finite."""
    left = [times]

    def spoilt(grad):
        if trainer.state.step == at - 1 and left[0]:
            left[0] -= 1
            return torch.full_like(grad, value)
        return grad

    trainer.state.generator.layers[0].weight.register_hook(spoilt)
    return trainer


def test_runs_that_are_killed_end_as_those_that_nobody_disturbs():
    command = [sys.executable, "-m", "tests.training.kills", "--kinds", "unrolled", "--kills", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0, done.stderr
    kind, kills, runs, _, equal, _ = done.stdout.strip().split(",")
    assert (kind, kills, runs) == ("unrolled", "1", equal)


def test_the_log_goes_on_bit_for_bit_between_its_lines(toy, tmp_path):
    make(toy, tmp_path / "whole", sample_every=5).fit(12)
    with pytest.raises(KeyboardInterrupt):
        make(toy, tmp_path / "killed", Dies(at=8), sample_every=5).fit(12)
    assert checkpoint.latest(tmp_path / "killed/checkpoints").name == "step_00000006"  # between lines 4 and 8
    make(toy, tmp_path / "killed", resume=True, sample_every=5).fit(12)
    assert kept(tmp_path / "killed") == kept(tmp_path / "whole")
    assert any("watch_movement" in row for row in kept(tmp_path / "whole")[1])


def test_a_gradient_that_is_not_finite_ends_the_run_in_its_step(toy, tmp_path):
    trainer = spoil(make(toy, tmp_path, log_every=100), at=5)
    words = r"step 5: gradient layers.0.weight of the generator is not finite; try"
    with pytest.raises(Diverged, match=words):
        trainer.fit(20)
    (post_mortem,) = (tmp_path / "post_mortem").iterdir()
    assert post_mortem.name == "step_00000005"
    assert not trainer.state.generator.layers[0].weight.isfinite().all()
    again = make(toy, tmp_path, resume=True)
    assert again.state.step == 3  # never from what diverged
    again.fit(6)


def test_a_gradient_that_explodes_is_found_too(toy, tmp_path):
    with pytest.raises(Diverged, match=r"step 2: .*explode"):
        spoil(make(toy, tmp_path), at=2, value=1e30).fit(4)


def test_a_rollback_goes_on_with_halved_rates_and_other_numbers_and_can_be_resumed(toy, tmp_path):
    plain = make(toy, tmp_path / "plain")
    plain.fit(12)
    back = {"on_divergence": "rollback"}
    trainer = spoil(make(toy, tmp_path / "whole", **back), at=5)
    trainer.fit(12)
    state = trainer.state
    assert (state.step, state.rollbacks) == (12, 1)
    assert state.generator_optimizer.param_groups[0]["lr"] == trainer.recipe.generator_lr / 2
    files, rows = kept(tmp_path / "whole")
    assert [row["step"] for row in rows if "rollback" in row] == [3]
    assert "gradient layers.0.weight of the generator" in next(r["diverged"] for r in rows if "rollback" in r)
    assert files["generator.safetensors"] != kept(tmp_path / "plain")[0]["generator.safetensors"]
    assert json.loads(files["state.json"])["rollbacks"] == 1

    with pytest.raises(KeyboardInterrupt):  # after the rollback, before its first checkpoint
        spoil(make(toy, tmp_path / "early", Dies(at=5), **back), at=4).fit(12)
    spoil(make(toy, tmp_path / "early", resume=True, **back), at=4).fit(12)
    with pytest.raises(KeyboardInterrupt):  # after the first checkpoint
        spoil(make(toy, tmp_path / "late", Dies(at=8), **back), at=4).fit(12)
    make(toy, tmp_path / "late", resume=True, **back).fit(12)
    once = spoil(make(toy, tmp_path / "once", **back), at=4)
    once.fit(12)
    assert kept(tmp_path / "early") == kept(tmp_path / "late") == kept(tmp_path / "once")


def test_rollbacks_end(toy, tmp_path):
    trainer = spoil(make(toy, tmp_path, on_divergence="rollback", rollbacks=2), at=5, times=9)
    with pytest.raises(Diverged, match=r"step 5: .*; 2 rollbacks did not help"):
        trainer.fit(12)
    assert [row["rollback"] for row in read_metrics(tmp_path / "metrics.jsonl") if "rollback" in row] == [1, 2]
    trainer = spoil(make(toy, tmp_path / "new", on_divergence="rollback"), at=2)
    with pytest.raises(Diverged, match="the run has no checkpoint to go back to"):
        trainer.fit(12)


def test_a_damaged_newest_checkpoint_is_set_aside_and_said(toy, tmp_path):
    make(toy, tmp_path, keep_checkpoints=1).fit(6)
    make(toy, tmp_path, resume=True, keep_checkpoints=2).fit(9)
    damaged = tmp_path / "checkpoints/step_00000009/generator.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    words = "step_00000006: is taken, the newest checkpoint that is whole; step_00000009: damaged"
    with pytest.warns(SkippedCheckpoint, match=words):
        trainer = make(toy, tmp_path, resume=True, keep_checkpoints=1)
    assert trainer.state.step == 6 and damaged.exists()
    trainer.fit(8)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["damaged_step_00000009", "step_00000008"]


def test_checkpoints_come_after_a_time(toy, tmp_path):
    make(toy, tmp_path / "often", checkpoint_every="0.001s", keep_checkpoints=99).fit(6)
    names = [path.name for path in sorted((tmp_path / "often/checkpoints").iterdir())]
    assert len(names) >= 3 and names[-1] == "step_00000006"
    make(toy, tmp_path / "seldom", checkpoint_every="2h").fit(6)
    assert [path.name for path in (tmp_path / "seldom/checkpoints").iterdir()] == ["step_00000006"]
    for wrong in ("10", "0s", "soon", "3 days", 0, True, 1.5):
        with pytest.raises(ValueError, match="checkpoint_every must be"):
            RunOptions(checkpoint_every=wrong)
    for wrong in ({"on_divergence": "go on"}, {"rollbacks": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
            RunOptions(**wrong)


def test_costly_checkpoints_are_written_beside_the_training(toy, tmp_path, monkeypatch):
    threads, write, go = [], checkpoint.write, threading.Event()

    def slow(*args):
        threads.append(threading.current_thread() is threading.main_thread())
        if len(threads) == 2:  # the first one is waited for, and costs most of the time; this one is not
            assert go.wait(20)
        return write(*args)

    class Frees(Callback):
        def on_step(self, trainer, row):
            if trainer.state.step == 8:
                go.set()

    monkeypatch.setattr(checkpoint, "write", slow)
    make(toy, tmp_path / "slow", Frees()).fit(12)
    monkeypatch.undo()
    make(toy, tmp_path / "plain").fit(12)
    assert threads == [False] * 4
    assert kept(tmp_path / "slow") == kept(tmp_path / "plain")


def test_a_failure_of_the_writer_ends_the_run(toy, tmp_path, monkeypatch):
    write = checkpoint.write

    def full(taken, *args):
        if taken.step == 6:
            raise OSError(28, "No space left on device", "somewhere")
        return write(taken, *args)

    monkeypatch.setattr(checkpoint, "write", full)
    with pytest.raises(OSError, match="No space left"):
        make(toy, tmp_path).fit(30)
    assert checkpoint.latest(tmp_path / "checkpoints").name == "step_00000003"
    monkeypatch.undo()
    make(toy, tmp_path, resume=True).fit(6)


def test_a_soak_sees_growth_open_files_and_a_run_that_slows_down():
    def looks(memory, handles, seconds):
        return [
            soak.Look(i, i, i * (1 + (i > 30) * seconds), 500 + memory * i, 9 + int(handles * i)) for i in range(61)
        ]

    assert soak.failures(soak.summary(looks(0, 0, 0))) == []
    said = soak.failures(soak.summary(looks(1, 0.1, 0.1)))
    assert [words in line for words, line in zip(("memory", "handles", "speed"), said, strict=True)] == [True] * 3


def test_a_short_soak_runs_with_everything_on(tmp_path):
    often = {"sample_every": 3, "evaluate_every": 3, "evaluate_count": 20, "log_every": 2}
    found = soak.soak(0.1, "0.3s", tmp_path, **often)
    assert found["checkpoints"] >= 2 and found["steps"] >= 3
    assert found["handles_last_sixth"] <= found["handles_after_first_sixth"] + 1
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert any("fid" in row for row in rows) and any("watch_auc" in row for row in rows)
