"""How waiting OpenMP threads cost: a short training under each policy, on a quiet and on a busy machine.

    python -m benchmarks.threads [--steps 100] [--rounds 7]

A turn is a process of its own that trains `fastgan train`'s default networks. Policies take turns, and ratios are taken
within a turn. "torch" is what torch does by itself, where waiting threads spin; "passive" is OMP_WAIT_POLICY=PASSIVE,
which the `fastgan` command sets; "one thread" is OMP_NUM_THREADS=1. On the busy machine one other process computes in
Python. Writes benchmarks/results/threads.csv: seconds of the wall clock, and of all processors together.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time

import torch

import fastgan
from benchmarks.interleaved import hardware, percentiles, ratio, results

POLICIES = {"torch": {}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}, "one thread": {"OMP_NUM_THREADS": "1"}}
NEIGHBOURS = (0, 1)
COLUMNS = "neighbours policy wall wall_p20 wall_p80 cpu faster_p20 faster_median faster_p80 steps rounds cores"
COLUMNS = (*COLUMNS.split(), "hardware", "torch", "fastgan")
# Not the `fastgan` command, which would set the policy itself.
TRAIN = "import sys; from fastgan.cli import main; sys.exit(main(sys.argv[1:]))"


def turn(policy, steps):
    """(seconds of the wall clock, seconds of all processors) of one training."""
    free = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    with tempfile.TemporaryDirectory() as folder:
        flags = ["train", "--steps", str(steps), "--run-dir", f"{folder}/run", "--no-progress"]
        begin, before = time.perf_counter(), os.times()
        subprocess.run(
            [sys.executable, "-c", TRAIN, *flags], env=free | POLICIES[policy], stdout=subprocess.DEVNULL, check=True
        )
        after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - begin, used


def measure(neighbours, steps, rounds):
    """policy -> a list of (wall, cpu), a turn each"""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
    try:
        found = {policy: [] for policy in POLICIES}
        names = list(POLICIES)
        for i in range(rounds):
            for policy in names[i % len(names) :] + names[: i % len(names)]:
                found[policy].append(turn(policy, steps))
        return found
    finally:
        for process in busy:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    flags = parser.parse_args()
    turn("passive", 1)  # what is compiled and cached at the first start
    with open(results("cpu") / "threads.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for neighbours in NEIGHBOURS:
            found = measure(neighbours, flags.steps, flags.rounds)
            walls = {policy: [wall for wall, _ in turns] for policy, turns in found.items()}
            for policy, turns in found.items():
                wall, cpu = percentiles(walls[policy]), percentiles([used for _, used in turns])
                faster = ratio(walls, "torch", policy)
                numbers = (wall.median, wall.p20, wall.p80, cpu.median, faster.p20, faster.median, faster.p80)
                about = (flags.steps, flags.rounds, os.cpu_count(), hardware("cpu"), torch.__version__)
                row = (neighbours, policy, *(f"{number:.3f}" for number in numbers), *about, fastgan.__version__)
                writer.writerow(row)
                file.flush()
                print(dict(zip(COLUMNS, row, strict=True)), flush=True)


if __name__ == "__main__":
    main()
