"""Networks of the user's own by module:function: what they lack is said, and a file alone does not make code run."""

import json
import sys
from importlib.metadata import EntryPoint

import pytest
import yaml

import fastgan
from fastgan import cli, models

MODULE = """
from pathlib import Path
from torch import nn

Path(r"{executed}").write_text("")


class Generator(nn.Module):
    z_dim = 4

    def __init__(self, resolution):
        super().__init__()
        self.resolution, self.layer = resolution, nn.Linear(4, resolution**2)

    def forward(self, z):
        return self.layer(z).tanh().view(-1, 1, self.resolution, self.resolution)


class Discriminator(nn.Module):
    def __init__(self, resolution):
        super().__init__()
        self.layer = nn.Linear(resolution**2, 1)

    def forward(self, x):
        return self.layer(x.flatten(1))[:, 0]


def pair(resolution):
    return Generator(resolution), Discriminator(resolution)


def not_a_pair(resolution):
    return Generator(resolution)


def without_z_dim(resolution):
    return Discriminator(resolution), Discriminator(resolution)


def too_small(resolution):
    return Generator(resolution - 1), Discriminator(resolution)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module in the current folder, of which every import leaves a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    name = f"own_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(executed=tmp_path / "executed"))
    return name


def command(*arguments):
    return cli.main([str(a) for a in arguments])


def test_own_networks_train_and_files_alone_do_not_run_them(tmp_path, module, capsys, monkeypatch):
    named = ["--model", f"{module}:pair"]
    assert command("train", *named, "--steps", 1, "--batch-size", 8, "--run-dir", "run") == 0
    executed = tmp_path / "executed"

    def forget():
        executed.unlink(missing_ok=True)
        monkeypatch.delitem(sys.modules, module, raising=False)

    again = ["train", "--resume", "--steps", 2, "--run-dir", "run"]
    for arguments in (again, ["sample", "--run-dir", "run"], ["export", "run"], ["evaluate", "--run-dir", "run"]):
        forget()
        capsys.readouterr()
        assert command(*arguments) == 2 and not executed.exists()
        assert f"name it again: --model {module}:pair" in capsys.readouterr().err
    assert command(*again, *named) == 0 and executed.exists()
    assert command("sample", "--run-dir", "run", *named, "--out", "s.png") == 0
    assert command("export", "run", *named) == 0
    forget()
    with pytest.raises(ValueError, match=f"name it again: model={module}:pair"):
        fastgan.load("run/export")
    assert not executed.exists()
    assert fastgan.load("run/export", model=f"{module}:pair").z_dim == 4


def test_a_changed_setup_file_does_not_run_code(tmp_path, module, capsys):
    tiny = ["--steps", 1, "--width", 4, "--z-dim", 4, "--batch-size", 8]
    assert command("train", *tiny, "--run-dir", "run") == 0
    file = tmp_path / "run" / "setup.yaml"
    whole = yaml.safe_load(file.read_text())
    for place, value in (("flags", {"model": f"{module}:pair"}), ("options", {"extractor": f"{module}:pair"})):
        changed = json.loads(json.dumps(whole))
        (changed["flags"]["options"] if place == "options" else changed["flags"]).update(value)
        file.write_text(yaml.safe_dump(changed))
        assert command("train", "--resume", "--run-dir", "run", "--steps", 2, "--width", 8) == 2
        assert "A file alone does not make code run" in capsys.readouterr().err
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "function, words",
    [
        ("not_a_pair", "must return a pair of torch.nn.Modules, (generator, discriminator); got Generator"),
        ("without_z_dim", "must have an attribute z_dim, an int"),
        ("too_small", "(8, 1, 27, 27)"),
        ("nothing", "cannot be imported"),
    ],
)
def test_what_is_missing_is_said_in_a_line(module, capsys, function, words):
    assert command("train", "--model", f"{module}:{function}", "--run-dir", "run", "--batch-size", 8) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_an_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"model must be one of dcgan, .*, or module:function; got 'nogan'"):
        models.create("nogan")


def test_an_entry_point_is_a_name(module, monkeypatch):
    entry = EntryPoint("small", f"{module}:pair", "fastgan.models")
    monkeypatch.setattr(
        "fastgan.own_code.metadata.entry_points", lambda **wanted: [entry] * (wanted["name"] == "small")
    )
    monkeypatch.syspath_prepend(".")
    assert models.create("small", resolution=8).generator.created_as["name"] == "small"


def test_a_recipe_of_a_file_is_kept_in_the_run(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: dcgan\nbatch_size: 8\npack: 2\n")
    run, tiny = str(tmp_path / "run"), ["--width", 4, "--z-dim", 4]
    assert command("train", "--recipe", file, *tiny, "--steps", 1, "--generator-lr", 1e-3, "--run-dir", run) == 0
    file.unlink()
    assert command("train", "--resume", "--steps", 2, "--run-dir", run) == 0
    kept = fastgan.Recipe.load(tmp_path / "run" / "recipe.yaml")
    assert (kept.loss, kept.batch_size, kept.pack, kept.generator_lr) == ("non_saturating", 8, 2, 1e-3)
    capsys.readouterr()
    for text, words in (("batch: 8", "no field batch"), ("recipe: nogan", "recipe must be one of"), ("- 1", "mapping")):
        file.write_text(text)
        assert command("train", "--recipe", file) == 2
        assert words in capsys.readouterr().err
