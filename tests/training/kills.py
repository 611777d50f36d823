"""Runs that are killed at random moments, against runs that nobody disturbs.

    python -m tests.training.kills [--kills 20] [--kinds default wgan-gp ...] [--csv PATH]

Each kind of run is trained once from the first to the last step. Then runs of the same kind are killed with SIGKILL
at random moments, and resumed, until each has come to its end. The last checkpoints must be equal byte for byte, the
logs but for the speed, and no unfinished file may be left. Prints a line of CSV for each kind; exits with 1 if a run
differs.
"""

import argparse
import csv
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

import matplotlib.figure  # noqa: F401  # once, here: each run is a fork
import safetensors.torch  # noqa: F401
import torch

from fastgan import Trainer, data
from fastgan.training import ProgressiveSchedule, networks
from fastgan.training.recipe.presets import RECIPES

STEPS = 14
EVERY = {"log_every": 4, "sample_every": 5, "checkpoint_every": 3}  # none a multiple of another: sums cross checkpoints
KINDS = ("default", "wgan-gp", "sagan", "unrolled", "progan", "lecam", "pacgan2", "r3gan")
COLUMNS = ("kind", "kills", "runs", "resumed", "equal", "seconds_undisturbed")


def train(kind, folder):
    torch.set_num_threads(1)
    named = RECIPES[kind]
    samples = data.load(named.data)
    changes = {"batch_size": 2, "discriminator_burst": (0, 0, 0)}
    if named.settings.progressive:
        changes["progressive"] = ProgressiveSchedule(phase_images=8)
    recipe = replace(named.settings, discriminator_steps=min(2, named.settings.discriminator_steps), **changes)
    model = networks.describe(samples, named, recipe)
    model["width"] = {"mlp": 16, "progressive": 4}.get(model["name"], 2)
    pair = networks.build(model, recipe)
    options = {"device": "cpu", "progress": False, "report": False} | EVERY
    Trainer(*pair, recipe, samples, run_dir=folder, resume="auto", **options).fit(STEPS)


def begin(kind, folder):
    """-> the number of a process that trains"""
    process = os.fork()
    if process:
        return process
    try:
        train(kind, folder)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def kept(folder):
    """What must be equal: file -> content; the log without the speed."""
    files = {
        str(path.relative_to(folder)): path.read_bytes()
        for place in ("checkpoints", "post_mortem")
        for path in sorted((folder / place).rglob("*"))
        if path.is_file()
    }
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    files["log"] = json.dumps([{k: v for k, v in row.items() if k != "steps_per_second"} for row in rows])
    files["unfinished"] = sorted(path.name for path in folder.rglob("*unfinished*"))
    return files


def seconds_until_the_end(process):
    began = time.monotonic()
    _, status = os.waitpid(process, 0)
    if status:
        raise RuntimeError(f"a run that nobody killed ended with {status}")
    return time.monotonic() - began


def ends_before(process, moment):
    """Whether the process ends by itself before the moment; else it is killed."""
    while time.monotonic() < moment:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            if status:
                raise RuntimeError(f"a resumed run ended with {status}")
            return True
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1] == 0


def kill(kind, kills, source, folder):
    """-> a row of COLUMNS"""
    whole = folder / "whole"
    seconds = seconds_until_the_end(begin(kind, whole))
    expected, killed, runs, resumed, equal = kept(whole), 0, 0, 0, 0
    while killed < kills:
        place, runs = folder / f"run_{runs}", runs + 1
        while killed < kills:
            resumed += bool(list(place.glob("checkpoints/step_*")))
            if ends_before(begin(kind, place), time.monotonic() + source.uniform(0, seconds)):
                break
            killed += 1
        else:
            resumed += bool(list(place.glob("checkpoints/step_*")))
            seconds_until_the_end(begin(kind, place))
        found = kept(place)
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                print(f"{kind}, {place.name}: {name} differs", file=sys.stderr)
        equal += found == expected
    return dict(zip(COLUMNS, (kind, killed, runs, resumed, equal, round(seconds, 2)), strict=True))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--csv", type=Path)
    flags = parser.parse_args()
    rows = []
    for kind in flags.kinds:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(kill(kind, flags.kills, random.Random(kind), Path(folder)))
        print(",".join(map(str, rows[-1].values())), flush=True)
    if flags.csv:
        with flags.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    return int(any(row["equal"] != row["runs"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
