import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import fastgan
from fastgan import _threads, cli, models
from fastgan.data import TensorData
from fastgan.training import Recipe, Trainer
from fastgan.training.run import checkpoint
from fastgan.training.run.metrics_log import MetricsLog

TINY = ["--steps", "4", "--width", "8", "--z-dim", "8", "--batch-size", "8", "--log-every", "2", "--sample-every", "2"]


def run(*arguments):
    return cli.main([str(a) for a in arguments])


def complaint(capsys, *arguments, code=2):
    """The one line on stderr of a command that must end with this exit code."""
    assert run(*arguments) == code
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
    assert "from step 4 (the newest whole checkpoint) to step 6" in capsys.readouterr().out
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


def test_tensorboard_is_written_and_goes_on_with_the_run(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert run("train", *TINY, "--run-dir", tmp_path / "run", "--tensorboard") == 0
    assert run("train", "--resume", "--run-dir", tmp_path / "run", "--steps", 6) == 0
    found = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in found.Scalars("d_loss")] == [2, 4, 6]
    assert run("train", *TINY, "--run-dir", tmp_path / "plain") == 0
    assert not (tmp_path / "plain" / "tensorboard").exists()


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
        (["--threads", str(2**63)], "threads must be at most 2147483647"),
        (["--device", "gpu"], "device must be"),
        (["--device", "meta"], "device"),
        (["--batch-size", "0"], "batch_size must be an integer of at least 1; got 0"),
        (["--loss", "hingo"], "loss must be one of"),
        (["--recipe", "nothing"], "nothing"),
        (["--augment", "nonsense"], "nonsense"),
        (["--recipe", "dcgan", "--penalties", "R1(gamma=1.0)"], "batch"),
        (["--generator-terms", "ConditioningKL()"], "ConditioningKL"),
        (
            ["--penalties", "AuxiliaryClassifier()"],
            "penalties and augmentation failed: AuxiliaryClassifier needs labels",
        ),
        (
            ["--recipe", "acgan", "--penalties", "AuxiliaryClassifier('x')"],
            "weight must be a number of at least 0; got 'x'",
        ),
        (["--data", "ring", "--augment", "color"], "image"),
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
    assert f"{broken}: cannot be read as an image" in complaint(capsys, "train", *flags, code=3)
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
    assert "is not finite" in complaint(capsys, "train", *flags, "--run-dir", tmp_path / "run", code=4)


@pytest.mark.parametrize("flags", [["--bach-size", "3"], ["--seed", "x"], ["--log-every", "0"]])
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
        assert re.search(f"--{name.replace('_', '-')}[ ,]", said), name


def test_the_doctor_reports_and_speaks_json(capsys):
    assert run("doctor") == 0
    assert "spectral_norm" in capsys.readouterr().out
    assert run("doctor", "--json") == 0
    assert "spectral_norm" in json.loads(capsys.readouterr().out)["ops"]


def test_an_unknown_command_is_one_line(capsys):
    commands = "train, compare, stages, recipes, sample, report, evaluate, data, export, bench, doctor"
    assert f"'nothing at all' is not a command; use one of {commands}" in complaint(capsys, "nothing at all")


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


@pytest.fixture
def default_signals():
    """Also in a suite under nohup, where SIGHUP is ignored, or in a shell's background, where SIGINT is."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_keeps_the_last_whole_step_and_says_how_to_go_on(
    tmp_path, monkeypatch, capsys, default_signals, name, code
):
    write = MetricsLog.write

    def write_and_signal(self, **row):
        write(self, **row)
        os.kill(os.getpid(), getattr(signal, name))

    folder = tmp_path / "a run"
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(MetricsLog, "write", write_and_signal)
    assert run("train", *TINY, "--run-dir", folder) == code
    said = capsys.readouterr().err
    assert f"stopped by {name} at step 2; go on with: fastgan train --resume --run-dir '{folder}'" in said
    assert checkpoint.latest(folder / "checkpoints").name == "step_00000002"
    assert signal.getsignal(signal.SIGTERM) is handler
    monkeypatch.undo()
    assert run("train", "--resume", "--run-dir", folder) == 0
    assert checkpoint.latest(folder / "checkpoints").name == "step_00000004"
    assert run("train", "--resume", "--run-dir", folder) == 0
    assert "nothing to do: the run is at step 4 already" in capsys.readouterr().out


def test_a_second_ctrl_c_leaves_at_once(tmp_path, monkeypatch, capsys, default_signals):
    monkeypatch.setattr(MetricsLog, "write", lambda self, **row: [os.kill(os.getpid(), signal.SIGINT) for _ in "12"])
    assert run("train", *TINY, "--run-dir", tmp_path / "run") == 130
    assert checkpoint.latest(tmp_path / "run" / "checkpoints") is None
    assert capsys.readouterr().err == "fastgan: stopped\n"


def test_a_full_disk_is_one_line_with_the_path(tmp_path, monkeypatch, capsys):
    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = complaint(capsys, "train", *TINY, "--run-dir", tmp_path / "run", code=5)
    assert "No space left on device" in said and str(tmp_path / "run") in said


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you")])
def test_too_little_memory_is_one_line(tmp_path, monkeypatch, capsys, error):
    def out_of_memory(self, steps):
        raise error

    monkeypatch.setattr(Trainer, "fit", out_of_memory)
    said = complaint(capsys, "train", *TINY, "--run-dir", tmp_path / "run", code=6)
    assert "out of memory: lower --batch-size" in said


def test_a_run_that_died_before_its_first_checkpoint_begins_again(tmp_path, monkeypatch, capsys):
    def die(self, **row):
        raise ZeroDivisionError

    monkeypatch.setattr(MetricsLog, "write", die)
    with pytest.raises(ZeroDivisionError):
        run("train", *TINY, "--run-dir", tmp_path / "run")
    monkeypatch.undo()
    assert "has no checkpoint to resume from" in complaint(capsys, "train", "--resume", "--run-dir", tmp_path / "run")
    assert run("train", *TINY, "--run-dir", tmp_path / "run") == 0


@pytest.mark.parametrize(
    "file, text", [("setup.yaml", "a:\t- b: c"), ("recipe.yaml", "\0\0"), ("metrics.jsonl", "{\n")]
)
def test_a_damaged_file_of_a_run_is_one_line_with_its_path(tmp_path, capsys, file, text):
    assert run("train", *TINY, "--run-dir", tmp_path) == 0
    capsys.readouterr()
    (tmp_path / file).write_text(text)
    assert f"{tmp_path / file}" in complaint(capsys, "train", "--resume", "--run-dir", tmp_path, "--steps", 6)


def test_a_resume_keeps_its_recipe_and_finds_its_data_from_everywhere(tmp_path, monkeypatch, capsys):
    image_tree(tmp_path / "images")
    monkeypatch.chdir(tmp_path)
    assert run("train", *TINY, "--data", "images", "--resolution", 28, "--run-dir", "run") == 0
    monkeypatch.chdir("/")
    capsys.readouterr()
    resume = ["train", "--resume", "--run-dir", tmp_path / "run", "--steps", 6]
    assert "does not take --recipe dcgan" in complaint(capsys, *resume, "--recipe", "dcgan")
    assert run(*resume, "--recipe", "default") == 0


def test_the_growing_schedule_of_progan_is_a_flag_also_in_a_resume(tmp_path):
    grow = ["--progressive", "ProgressiveSchedule(phase_images=8)"]
    folder = tmp_path / "run"
    assert run("train", "--recipe", "progan", *TINY, "--resolution", 16, "--run-dir", folder, *grow) == 0
    assert Recipe.load(folder / "recipe.yaml").progressive.phase_images == 8
    assert run("train", "--resume", "--run-dir", folder, "--steps", 5, "--progressive", "ProgressiveSchedule(9)") == 0
    assert Recipe.load(folder / "recipe.yaml").progressive.phase_images == 9


def test_a_run_made_from_python_is_sampled_and_resumed_by_the_command(tmp_path, capsys):
    sizes = {"channels": 1, "resolution": 28, "width": 8, "z_dim": 8}
    pair = models.create("dcgan", **sizes, classes=3, spectral_norm="both")
    data = TensorData(torch.rand(30, 1, 28, 28) * 2 - 1, torch.arange(30) % 3)
    options = {"run_dir": tmp_path / "run", "progress": False}
    Trainer(*pair, Recipe(batch_size=8), data, **options).fit(1)
    out = tmp_path / "x.png"
    assert run("sample", "--run-dir", tmp_path / "run", "--count", 7, "--out", out) == 0
    assert Image.open(out).size == (3 * 58 + 2, 3 * 70 + 2)  # a column for each class, captions under the images
    capsys.readouterr()
    assert "give --data" in complaint(capsys, "train", "--resume", "--run-dir", tmp_path / "run")
    other = nn.Sequential(nn.Linear(8, 784), nn.Unflatten(1, (1, 28, 28)))
    other.z_dim = 8
    Trainer(
        other,
        nn.Sequential(nn.Flatten(), nn.Linear(784, 1), nn.Flatten(0)),
        Recipe(),
        data,
        run_dir=tmp_path / "b",
        progress=False,
    ).fit(1)
    assert "no run of a pair from fastgan.models.create" in complaint(capsys, "sample", "--run-dir", tmp_path / "b")


def test_samples_go_to_a_folder_a_format_and_classes(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run("train", *TINY, "--conditional", "--run-dir", folder, "--checkpoint-every", 2) == 0
    sample = ["sample", "--run-dir", folder, "--count", 5, "--out"]
    for out in ("new/", "new"):
        assert run(*sample, f"{tmp_path}/{out}") == 0
    assert sorted(os.listdir(tmp_path / "new")) == [f"0000{i}.png" for i in range(5)]
    assert Image.open(tmp_path / "new" / "00000.png").size == (28, 28)
    for suffix, format in ((".jpg", "JPEG"), (".webp", "WEBP"), (".png", "PNG"), ("", "PNG")):
        assert run(*sample, tmp_path / f"x{suffix}") == 0
        assert Image.open(tmp_path / f"x{suffix}").format == format
    capsys.readouterr()
    assert "the suffix must name a format" in complaint(capsys, *sample, tmp_path / "x.txt")
    assert "is a device" in complaint(capsys, *sample, "/dev/null")
    assert "classes must be numbers from 0 to 9" in complaint(capsys, *sample, tmp_path / "x", "--class", "0,10")
    assert run(*sample, f"{tmp_path}/only/", "--class", "3") == 0
    assert run(*sample, f"{tmp_path}/all/", "--classes", "3,1") == 0
    read = [np.asarray(Image.open(tmp_path / name / "00000.png")) for name in ("only", "all", "new")]
    assert np.array_equal(read[0], read[1]) and not np.array_equal(read[0], read[2])
    step = folder / "checkpoints" / "step_00000002"
    assert run(*sample[:1], "--run-dir", step, "--count", 5, "--out", tmp_path / "early.png") == 0
    assert (tmp_path / "early.png").read_bytes() != (tmp_path / "x.png").read_bytes()
    capsys.readouterr()
    assert "only a run with --stop-when or --evaluate-every keeps its best" in complaint(
        capsys, *sample, tmp_path / "x", "--best"
    )


def test_the_best_state_is_sampled(tmp_path):
    folder = tmp_path / "run"
    assert run("train", *TINY, "--stop-when", "plateau", "--run-dir", folder) == 0
    (best,) = (folder / "best").glob("step_*")
    pictures = []
    for place in (["--run-dir", folder, "--best"], ["--run-dir", folder / "best"], ["--run-dir", best]):
        assert run("sample", *place, "--count", 4, "--out", tmp_path / "x.png") == 0
        pictures.append((tmp_path / "x.png").read_bytes())
    assert pictures[0] == pictures[1] == pictures[2]


def command(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "fastgan", *map(str, arguments)], text=True, **options)


def test_the_version_and_a_name_that_is_nearly_right(capsys):
    assert command("--version", capture_output=True).stdout == f"fastgan {fastgan.__version__}\n"
    assert complaint(capsys, "tran").endswith("; did you mean train?")


def test_a_reader_that_has_gone_is_no_traceback():
    reader, writer = os.pipe()
    os.close(reader)
    done = command("recipes", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 141 and done.stderr == ""


def test_a_closed_stderr_does_not_stop_the_training(tmp_path):
    arguments = [sys.executable, "-m", "fastgan", "train", *TINY, "--run-dir", str(tmp_path)]
    done = subprocess.run(["sh", "-c", f"{shlex.join(arguments)} 2>&-"], stdout=subprocess.DEVNULL)
    assert done.returncode == 0 and checkpoint.latest(tmp_path / "checkpoints").name == "step_00000004"


def test_threads_wait_passively_in_the_command_alone():
    code = "import os, fastgan; print(os.environ.get('OMP_WAIT_POLICY'))"
    free = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    called = "import sys; sys.argv[0] = '/bin/fastgan'; " + code
    found = [
        subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment).stdout.strip()
        for text, environment in ((code, free), (called, free), (called, free | {"OMP_WAIT_POLICY": "ACTIVE"}))
    ]
    assert found == ["None", "PASSIVE", "ACTIVE"]


@pytest.mark.parametrize(
    "argv, original, expected",
    [
        (["-m", "train"], ["python", "-m", "fastgan", "train"], True),
        (["-m"], ["python", "-X", "dev", "-u", "-mfastgan"], True),
        (["-m", "fastgan"], ["python", "-m", "pytest", "fastgan"], False),
        (["/usr/bin/fastgan", "train"], ["python", "/usr/bin/fastgan", "train"], True),
        (["mine.py"], ["python", "mine.py", "-m", "fastgan"], False),
        ([], ["program"], False),
    ],
)
def test_the_command_is_known_by_how_python_was_started(monkeypatch, argv, original, expected):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert _threads.is_command() == expected


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


def test_help_has_each_text_in_one_paragraph(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "2000")
    with pytest.raises(SystemExit):
        run("train", "--help")
    shown = capsys.readouterr().out
    assert "flat or with a sub-folder for each class, FILE.zip" in shown
    assert "less memory, the same update. The memories of LeCam" in shown  # of a class above
