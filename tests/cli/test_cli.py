import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan import cli
from fastgan.training import Recipe
from fastgan.training.run import checkpoint

TINY = ["--steps", "4", "--width", "8", "--z-dim", "8", "--batch-size", "8", "--log-every", "2", "--sample-every", "2"]


def run(*arguments):
    return cli.main([str(a) for a in arguments])


def complaint(capsys, *arguments):
    """The one line on stderr of a command that must end with exit code 2."""
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.strip().split("\n")
    assert len(lines) == 1 and lines[0].startswith("fastgan: "), lines
    return lines[0]


def image_tree(folder, count=6, size=32):
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng(index).integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def test_train_then_resume_then_sample(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run("train", *TINY, "--run-dir", folder, "--checkpoint-every", 2, "--generator-lr", 0.002, "--seed", 3) == 0
    said = capsys.readouterr().out
    assert str(folder / "samples.png") in said and "10,000 samples 1x28x28" in said
    assert (folder / "samples.png").exists() and (folder / "curves.png").exists()
    recipe = Recipe.load(folder / "recipe.yaml")
    assert (recipe.generator_lr, recipe.seed, recipe.batch_size) == (0.002, 3, 8)

    assert run("train", "--resume", "--run-dir", folder, "--steps", 6) == 0
    assert "from step 4 to step 6" in capsys.readouterr().out
    assert checkpoint.latest(folder / "checkpoints").name == "step_00000006"
    assert Recipe.load(folder / "recipe.yaml") == recipe
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [2, 4, 6]

    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            run("sample", "--run-dir", folder, "--count", 6, "--columns", 3, "--seed", seed, "--out", tmp_path / name)
            == 0
        )
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c
    assert Image.open(tmp_path / "a").size == (3 * 58 + 2, 2 * 58 + 2)


def test_a_folder_of_classes_trains_the_residual_pair(tmp_path):
    images = image_tree(tmp_path / "images")
    flags = [
        "--model",
        "sngan",
        "--data",
        images,
        "--resolution",
        28,
        "--recipe",
        "sngan",
        "--run-dir",
        tmp_path / "run",
    ]
    assert run("train", *TINY, *flags, "--steps", 1) == 0
    recipe = Recipe.load(tmp_path / "run" / "recipe.yaml")
    assert (recipe.discriminator_steps, recipe.batch_size) == (5, 8)  # the named recipe's, and the flag's
    assert run("sample", "--run-dir", tmp_path / "run", "--out", tmp_path / "x.png") == 0
    assert Image.open(tmp_path / "x.png").mode == "RGB"


def test_the_same_flags_make_the_same_run(tmp_path):
    weights = []
    for name in ("a", "b"):
        torch.manual_seed(len(name))
        torch.randn(hash(name) % 5 + 1)
        assert run("train", *TINY, "--run-dir", tmp_path / name) == 0
        path = checkpoint.latest(tmp_path / name / "checkpoints") / "generator.safetensors"
        weights.append(path.read_bytes())
    assert weights[0] == weights[1]


def test_without_run_dir_each_run_has_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run("train", *TINY, "--steps", 1) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["fashion-dcgan", "fashion-dcgan-2"]


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--data", "/nowhere"], "/nowhere: there is no such folder"),
        (["--resume"], "--resume needs --run-dir"),
        (["--resume", "--run-dir", "nothing"], "setup.yaml: is missing; nothing holds no run"),
        (["--resolution", "30"], "resolution must be 4 to 7 times a power of two"),
        (["--channels", "2"], "channels must be 1 or 3, got 2"),
        (["--width", "0"], "width must be a positive integer"),
        (["--steps", "0"], "steps must be at least 1; got 0"),
        (["--threads", "0"], "threads must be at least 1; got 0"),
        (["--device", "gpu"], "device must be"),
    ],
)
def test_bad_input_to_train_is_one_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    assert words in complaint(capsys, "train", *flags)
    assert not list(tmp_path.iterdir())


def test_bad_images_and_runs_are_one_line(tmp_path, capsys):
    images = image_tree(tmp_path / "images")
    broken = images / "dogs" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    flags = [*TINY, "--data", images, "--resolution", 28, "--run-dir", tmp_path / "run"]
    assert f"{broken}: cannot be read as an image" in complaint(capsys, "train", *flags)
    assert "holds no run" in complaint(capsys, "sample", "--run-dir", tmp_path)
    broken.unlink()
    assert run("train", *flags, "--steps", 1) == 0
    capsys.readouterr()
    assert "holds a run already" in complaint(capsys, "train", *flags)
    assert "count must be at least 1; got 0" in complaint(capsys, "sample", "--run-dir", tmp_path / "run", "--count", 0)
    assert "is not of this Generator" in complaint(capsys, "train", "--resume", *flags, "--width", 16)


def test_diverging_is_one_line(tmp_path, capsys):
    flags = [
        *TINY,
        "--generator-lr",
        "1e30",
        "--discriminator-lr",
        "1e30",
        "--spectral-norm",
        "none",
        "--loss",
        "wasserstein",
    ]
    assert run("train", *flags, "--run-dir", tmp_path / "run") == 2
    assert "is not finite" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--bach-size", "3"], ["--batch-size", "0"], ["--loss", "hingo"], ["--seed", "x"]])
def test_wrong_flags_end_with_two(flags, capsys):
    with pytest.raises(SystemExit) as ended:
        run("train", *flags)
    assert ended.value.code == 2
    assert flags[0].strip("-").split("-")[0] in capsys.readouterr().err.replace("_", "-")


def test_help_lists_commands_and_every_field_of_the_recipe(capsys):
    assert run() == 0 and run("--help") == 0
    assert "train" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        run("train", "--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    for name in Recipe.__dataclass_fields__:
        assert f"--{name.replace('_', '-')} " in said


def test_the_doctor_reports_and_speaks_json(capsys):
    assert run("doctor") == 0
    assert "spectral_norm" in capsys.readouterr().out
    assert run("doctor", "--json") == 0
    assert "spectral_norm" in json.loads(capsys.readouterr().out)["ops"]


def test_an_unknown_command_is_one_line(capsys):
    assert (
        "there is no command 'tran'; there are train, compare, stages, recipes, sample, evaluate, doctor"
        in complaint(capsys, "tran")
    )


@pytest.mark.parametrize("missing", ["tyro", "tqdm", "safetensors", "matplotlib", "PIL", "yaml"])
def test_a_missing_dependency_says_what_to_install(tmp_path, monkeypatch, capsys, missing):
    for name in [name for name in sys.modules if name.split(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)

    class Hidden:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == missing:
                raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)

    monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])
    said = complaint(capsys, "train", *TINY, "--run-dir", tmp_path / "run")
    assert said == f"fastgan: {missing} is not installed: pip install 'fastgan[train]'"
    assert not (tmp_path / "run").exists()


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    from fastgan import training

    def stop(self, steps):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Trainer, "fit", stop)
    assert run("train", *TINY, "--run-dir", tmp_path / "run") == 130
    assert "--resume --run-dir" in capsys.readouterr().err


def test_help_needs_no_optional_dependency():
    """`fastgan --help` in a process in which they cannot be imported."""
    code = (
        "import sys\n"
        "for name in ('tyro', 'yaml', 'tqdm', 'matplotlib', 'safetensors', 'PIL'): sys.modules[name] = None\n"
        "from fastgan.cli import main\n"
        "raise SystemExit(main(['--help']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "doctor" in done.stdout, done.stderr


@pytest.mark.parametrize("joint", [[], ["--joint"]])
def test_stages_are_trained_one_after_the_other(tmp_path, capsys, joint):
    small = ["--width", "4", "--z-dim", "8", "--batch-size", "4", "--device", "cpu", "--run-dir", str(tmp_path)]
    assert run("stages", "--first-steps", "1", "--second-steps", "1", *small, *joint) == 0
    said = capsys.readouterr().out
    for stage in ("stage_one", "stage_two"):
        assert (tmp_path / stage / "samples.png").exists() and stage in said
    assert "images with 1 or 3 channels" in complaint(capsys, "stages", "--data", "ring")
