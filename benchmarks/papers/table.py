"""What the paper tables share: seeds in parallel processes, criteria, and one file of results beside one figure.

A table is a module with a `TABLE`, a function `run(configuration, seed, ...) -> {name: value}` that trains through
fastgan.Trainer, `criteria(rows)` and `figure(rows)`. Finished runs are kept in runs/papers/NAME.jsonl, so a table that
was stopped goes on; `--fresh` forgets them.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.interleaved import hardware
from fastgan.extras import require
from fastgan.metrics.measurement import versions
from fastgan.training import Trainer

RESULTS = Path(__file__).parent / "results"
KEPT = Path("runs/papers")


@dataclass(frozen=True)
class Table:
    name: str  # of its module and its files
    id: str
    title: str
    source: str  # paper, section or published code
    label: str  # exact: the paper's networks, steps and metric; reduced: the protocol lists the cuts; own
    protocol: str  # what was run and measured
    notes: tuple[str, ...] = ()  # how settings were chosen, and what to know when reading the numbers
    published: dict = field(default_factory=dict)  # configuration -> the paper's number, as text


@dataclass(frozen=True)
class Criterion:
    asked: str
    measured: str
    passed: bool
    judged: bool = True  # or only shown


def arguments(doc, seeds):
    """--seeds, --processes, --device, --fresh; a table can add others before parsing."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(seeds)))
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at the same time, a thread each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fresh", action="store_true", help="run again what an earlier, stopped call has finished")
    return parser


def main(doc, table, run, criteria, figure, configurations, seeds, steps=None):
    """Most tables' command: every configuration from every seed. --steps applies if a run has steps."""
    parser = arguments(doc, seeds)
    if steps is not None:
        parser.add_argument("--steps", type=int, default=steps)
    options = parser.parse_args()
    more = {} if steps is None else {"steps": options.steps}
    jobs = [{"configuration": name, "seed": seed, **more} for seed in options.seeds for name in configurations]
    rows = run_all(table, run, jobs, options)
    write(table, rows, criteria(rows), figure(rows))


def run_all(table, run, jobs, options):
    """run(**job, device=...) for every job, a dict with "configuration" and "seed"; -> rows in the jobs' order.

    A row is the job, what `run` returned, and its wall and CPU seconds, device, commit and versions.
    """
    kept = KEPT / f"{table.name}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if options.fresh:
        kept.unlink(missing_ok=True)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {_key(row, jobs[0]): row for row in rows if row.keys() >= jobs[0].keys()}
    waiting = [job for job in jobs if _key(job, job) not in done]
    spawn = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
    with ProcessPoolExecutor(
        options.processes, mp_context=spawn, initializer=torch.set_num_threads, initargs=(1,)
    ) as p:
        futures = [p.submit(_timed, run, job, options.device) for job in waiting]
        for future in as_completed(futures):
            row = future.result()
            done[_key(row, jobs[0])] = row
            with kept.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{table.id} {_brief(row)}", flush=True)
    return [done[_key(job, job)] for job in jobs]


def write(table, rows, criteria, draw):
    """Write results/NAME.json, draw results/NAME.png by draw(figure), and print which criteria passed."""
    by_configuration = {}
    for row in rows:
        by_configuration.setdefault(row["configuration"], []).append(row)
    result = {
        **asdict(table),
        "criteria": [asdict(c) for c in criteria],
        "passed": all(c.passed for c in criteria),
        "summary": {name: _summary(group) for name, group in by_configuration.items()},
        "runs": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{table.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    figure = require("matplotlib.figure").Figure(figsize=(9, 4), layout="constrained")
    draw(figure)
    figure.savefig(RESULTS / f"{table.name}.png", dpi=110)
    for criterion in criteria:
        print(f"{'passed' if criterion.passed else 'MISSED'}: {criterion.asked}; measured {criterion.measured}")


@contextmanager
def silent_trainer(pair, recipe, samples, device, steps):
    """A Trainer in a temporary folder. It draws, logs and saves nothing before the last of `steps`."""
    never = {"report": False, "sample_every": steps + 1, "checkpoint_every": steps + 1, "log_every": max(1, steps)}
    with tempfile.TemporaryDirectory() as folder:
        yield Trainer(*pair, recipe, samples, run_dir=folder, device=device, progress=False, **never)


def column(rows, configuration, name):
    """The values of all seeds."""
    return [row[name] for row in rows if row["configuration"] == configuration]


def mean_and_error(values):
    """Mean and its standard error (None for one value)."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return statistics.fmean(values), error


def _timed(run, job, device):
    wall, cpu = time.perf_counter(), time.process_time()
    found = run(**job, device=device)
    seconds = {"wall_seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    return {**job, **found, **rounded, "hardware": hardware(device), "commit": commit, "versions": versions()}


def _key(row, job):
    return json.dumps({name: row[name] for name in job}, sort_keys=True)


def _brief(row):
    shown = {k: v for k, v in row.items() if isinstance(v, (int, float, str)) and k not in ("commit", "hardware")}
    return "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items())


def _summary(group):
    numbers = [
        k for k, v in group[0].items() if isinstance(v, (int, float)) and not isinstance(v, bool) and k != "seed"
    ]
    found = {}
    for name in numbers:
        values = [row[name] for row in group]
        mean, error = mean_and_error(values)
        found[name] = {"mean": mean, "standard_error": error, "values": values}
    return found
