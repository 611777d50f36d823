"""Everything that wants an NVIDIA GPU, in the order in which an hour of one is best spent: `make gpu`.

    python -m benchmarks.gpu [--list]

First the four calls that decide what to do next: whether it works, what the host costs, the attention kernels alone,
whole steps. Then the GPU's tests as a whole and every other benchmark. A command that has succeeded with this GPU,
driver, torch and Triton is noted in results/GPU/finished.csv and skipped the next time. All rows that a command writes
carry these four names. Commands that fail are named at the end. If the first command fails, the list ends there:
nothing else is worth a number then.
"""

import argparse
import csv
import shlex
import subprocess
import sys
from pathlib import Path

from benchmarks.interleaved import results
from benchmarks.rows import ABOUT, about

MENDED = "compile or opcheck or captured or third or same_bits or attention"
COMMANDS = (
    f'pytest -q --timeout 170 tests/gpu/test_ops_on_gpu.py -k "{MENDED}"',
    "benchmarks.gradient_penalty --device cuda --rounds 8 --no-compile --shape 64 128 16 16",
    "benchmarks.attention_blocks --rounds 20",
    "benchmarks.training_step --device cuda --recipes dcgan wgan-gp sngan sagan r3gan",
    # ... and then everything
    "pytest -q --timeout 600 tests/gpu",
    "benchmarks.training_step --device cuda --compile",
    "benchmarks.precision --device cuda",
    "benchmarks.gradient_penalty --device cuda",
    "benchmarks.attention --device cuda",
    "benchmarks.spectral_norm --device cuda",
    "benchmarks.critic_step --device cuda --width 128",
    "benchmarks.four_passes --device cuda",
)


def go_on(commands, machine, finished, run):
    """Runs what is not in the file yet, in order. -> the commands that failed. run(command) -> its exit status."""
    done, failed = _read(finished), []
    for command in commands:
        row = {"command": command} | machine
        if row in done:
            print(f"is there: {command}", flush=True)
            continue
        print(f"$ python -m {command}", flush=True)
        if run(command):
            failed.append(command)
            if command == commands[0]:
                break
            continue
        done.append(row)
        _write(finished, done)
    return failed


def add_machine(paths, machine):
    """Completes the rows of CSVs that were written just now, on this machine."""
    for path in paths:
        rows = _read(path)
        if rows and not set(machine) <= set(rows[0]):
            _write(path, [row | {name: row.get(name) or value for name, value in machine.items()} for row in rows])


def _read(path):
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the commands and run none")
    if parser.parse_args(arguments).list:
        print("\n".join(f"python -m {command}" for command in COMMANDS))
        return 0
    folder, machine = results("cuda"), about("cuda")
    machine = {name: machine[name] for name in ABOUT if name != "fastgan"}

    def run(command):
        before = {path: path.stat().st_mtime_ns for path in folder.glob("*.csv")}
        status = subprocess.run([sys.executable, "-m", *shlex.split(command)], cwd=Path(__file__).parents[1]).returncode
        after = {path: path.stat().st_mtime_ns for path in folder.glob("*.csv")}
        add_machine([path for path, time in after.items() if before.get(path) != time], machine)
        return status

    failed = go_on(COMMANDS, machine, folder / "finished.csv", run)
    for command in failed:
        print(f"failed: python -m {command}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
