"""The examples run as they stand, here with small settings."""

import os
import subprocess
import sys
from pathlib import Path

import numpy
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(folder, name, *flags):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *map(str, flags)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_folder(tmp_path):
    (tmp_path / "photos").mkdir()
    random = numpy.random.default_rng(0)
    for index in range(8):
        Image.fromarray(random.integers(0, 256, (40, 50, 3), dtype=numpy.uint8)).save(tmp_path / f"photos/{index}.png")
    assert "own_folder.png" in run(tmp_path, "own_folder", "photos", "--steps", 2, "--width", 4)
    assert Image.open(tmp_path / "own_folder.png").size[0] > 100
    assert (tmp_path / "runs/own-folder/samples.png").exists()


def test_own_critic(tmp_path):
    run(tmp_path, "own_critic", "--steps", 2, "--width", 8)
    assert (tmp_path / "runs/own-critic/samples.png").exists()


def test_own_loop(tmp_path):
    assert "of 8" in run(tmp_path, "own_loop", "--steps", 5, "--width", 16)


def test_every_example_is_run_here():
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_own")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == tested
