"""A long run with everything on: does its memory grow, do file handles stay open, does it become slower?

    python -m benchmarks.soak [--minutes 60] [--every 30s] [--results PATH]

A small run on the garments, with a checkpoint every 30 seconds, pictures, observations, FID and the report. The first
and the last sixth of the time are compared: the memory (median of the resident set, in MB) once the first sixth is over
and at the end, the open file handles, and the steps per second of processor time and of the clock. Exits with 1 if
the memory has grown by more than 3 %, if there are more handles, or if the last sixth has less than 97 % of the first
one's speed in processor time, which other programs hardly change. Writes a row of benchmarks/results/soak.csv.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.interleaved import results
from benchmarks.rows import Rows
from fastgan import Recipe, Trainer, data
from fastgan.models import create
from fastgan.training import Callback

GROWTH, SPEED, SHARE = 1.03, 0.97, 6
OFTEN: dict[str, Any] = {"log_every": 20, "sample_every": 100, "evaluate_every": 200}
OFTEN |= {"evaluate_count": 200, "extractor": "fashion-cnn"}
NUMBERS = (
    "steps",
    "checkpoints",
    "memory_after_first_sixth",
    "memory_last_sixth",
    "memory_ratio",
    "handles_after_first_sixth",
    "handles_last_sixth",
    "speed_ratio_processor",
    "speed_ratio_clock",
)


@dataclass(frozen=True)
class Look:
    step: int
    clock: float
    processor: float
    megabytes: float
    handles: int


class Looks(Callback):
    """A Look at this process twice in each hundredth of the time, at most once a step; the end of the run."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.checkpoints = seconds, 0
        self.looks: list[Look] = []

    def on_start(self, trainer):
        self.began = time.monotonic()

    def on_step(self, trainer, row):
        clock = time.monotonic() - self.began
        if not self.looks or clock - self.looks[-1].clock >= self.seconds / 200:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            megabytes = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
            handles = len(os.listdir("/proc/self/fd"))
            self.looks.append(Look(trainer.state.step, clock, time.process_time(), megabytes, handles))
        if clock >= self.seconds:
            trainer.stop()

    def on_file(self, trainer, path):
        self.checkpoints += path.name.startswith("step_") and path.suffix == ""


def soak(minutes: float, every: str, folder: Path, **options: Any) -> dict[str, float]:
    """Train for so many minutes. -> NUMBERS by name"""
    samples, seconds = data.load("fashion"), 60 * minutes
    model = create("dcgan", channels=1, resolution=28, width=8, z_dim=32, spectral_norm="discriminator")
    looks = Looks(seconds)
    chosen = {**OFTEN, "checkpoint_every": every, "progress": False, "device": "cpu"} | options
    trainer = Trainer(*model, Recipe(batch_size=32), samples, run_dir=folder, callbacks=[looks], **chosen)
    trainer.fit(10**9)
    return summary(looks.looks) | {"checkpoints": looks.checkpoints}


def summary(looks: list[Look]) -> dict[str, float]:
    """NUMBERS but for the checkpoints. Looks are at equal distances in time."""
    part = max(2, len(looks) // SHARE)
    first, settled, last = looks[:part], looks[part : 2 * part], looks[-part:]
    memory = [median(look.megabytes for look in some) for some in (settled, last)]
    handles = [min(look.handles for look in some) for some in (settled, last)]  # a checkpoint being written has one
    ratios = [_speed(last, clock) / _speed(first, clock) for clock in ("processor", "clock")]
    values = (looks[-1].step, 0, *memory, memory[1] / memory[0], *handles, *ratios)
    return dict(zip(NUMBERS, values, strict=True))


def _speed(looks, clock):
    return (looks[-1].step - looks[0].step) / (getattr(looks[-1], clock) - getattr(looks[0], clock))


def failures(found: dict[str, float]) -> list[str]:
    """What is not as it should be, in sentences."""
    said = []
    if found["memory_ratio"] > GROWTH:
        said.append(f"the memory has grown by {found['memory_ratio'] - 1:.1%}; at most {GROWTH - 1:.0%} is allowed")
    if found["handles_last_sixth"] > found["handles_after_first_sixth"]:
        before, after = found["handles_after_first_sixth"], found["handles_last_sixth"]
        said.append(f"{before} file handles have become {after}")
    if found["speed_ratio_processor"] < SPEED:
        said.append(f"the last sixth has {found['speed_ratio_processor']:.0%} of the first one's speed")
    return said


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--every", default="30s")
    parser.add_argument("--results", type=Path, default=results("cpu") / "soak.csv")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(flags.minutes, flags.every, Path(folder))
    for name, value in found.items():
        print(f"{name}: {value:.4g}")
    Rows(flags.results, ("minutes",), NUMBERS, "cpu").add((flags.minutes,), [f"{found[name]:.5g}" for name in NUMBERS])
    said = failures(found)
    print("\n".join(said), file=sys.stderr)
    return int(bool(said))


if __name__ == "__main__":
    sys.exit(main())
