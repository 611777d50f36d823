"""bf16 against fp32: five methods on the embedded garments, the time of a step and FID after the same number of steps.

    python -m benchmarks.precision [--device cuda] [--steps 600] [--blocks 6] [--seed 0] [--out FILE]

The settings are those of benchmarks/papers/fashion_benchmark.py. The two runs of a method take turns, a block of steps
each; speedup is the median over turns of the ratio within a turn. FID uses fastgan's small classifier on 10,000 real
and 10,000 generated images. Rows are added to results/precision.csv; a method that has its rows is skipped.
"""

import argparse
import sys
import time
from contextlib import ExitStack
from dataclasses import replace

import torch

from benchmarks.interleaved import percentiles, ratio, results
from benchmarks.papers.fashion_benchmark import IMAGES, METHODS, WIDTH, scores
from benchmarks.papers.table import silent_trainer
from benchmarks.rows import Rows
from fastgan import data, metrics
from fastgan.training import networks
from fastgan.training.recipe.presets import recipe as named_recipe

NAMES = ("NS-GAN", "WGAN-GP", "SN-hinge", "RaLSGAN", "SAGAN")
KEY = ("method", "precision", "steps", "seed", "threads")
NUMBERS = ("milliseconds", "speedup_p20", "speedup_median", "speedup_p80", "fid")


def trainer_of(method, precision, seed, images, device, steps):
    name, changes, options, _ = METHODS[method]
    named = named_recipe(name)
    recipe = replace(named.settings, batch_size=32, ema_decay=0.99, seed=seed, precision=precision, **changes)
    described = networks.describe(images, named, recipe) | {"width": WIDTH} | options
    return silent_trainer(networks.build(described, recipe), recipe, images, device, steps)


def seconds_of(trainer, until):
    before = time.perf_counter() if trainer.device.type == "cuda" else time.process_time()
    steps = until - trainer.state.step
    trainer.fit(until)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    return ((time.perf_counter() if trainer.device.type == "cuda" else time.process_time()) - before) / steps


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--methods", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", help="the CSV; by default in benchmarks/results")
    flags = parser.parse_args(arguments)
    torch.set_num_threads(flags.threads)
    rows = Rows(flags.out or results(flags.device) / "precision.csv", KEY, NUMBERS, flags.device)
    images, extractor = data.load("fashion"), metrics.fashion_cnn(device=flags.device)
    real = metrics.Samples.of(images.batch(torch.arange(IMAGES))[0], extractor)
    for method in flags.methods:
        about = (flags.steps, flags.seed, flags.threads)
        if all((method, precision, *about) in rows for precision in ("fp32", "bf16")):
            print(f"{method}: is there")
            continue
        with ExitStack() as stack:
            trainers = {
                precision: stack.enter_context(
                    trainer_of(method, precision, flags.seed, images, flags.device, flags.steps)
                )
                for precision in ("fp32", "bf16")
            }
            seconds = {precision: [] for precision in trainers}
            for block in range(flags.blocks):
                for precision, trainer in trainers.items():
                    seconds[precision].append(seconds_of(trainer, flags.steps * (block + 1) // flags.blocks))
            for precision, trainer in trainers.items():
                fid = scores(real, trainer, extractor, ("fid",))["fid"]
                middle, faster = percentiles(seconds[precision]).median, ratio(seconds, "fp32", precision)
                print(f"{method} {precision}: {1e3 * middle:.1f} ms, {faster} times, FID {fid:.2f}", flush=True)
                numbers = (1e3 * middle, faster.p20, faster.median, faster.p80, fid)
                rows.add((method, precision, *about), (f"{n:.4g}" for n in numbers))


if __name__ == "__main__":
    sys.exit(main())
