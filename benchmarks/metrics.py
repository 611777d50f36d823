"""FID, KID and PRDC of 10,000 x 2,048 features against torch-fidelity's FID, KID and precision/recall.

    python -m benchmarks.metrics [--rounds N] [--threads N] [--count N]

On random features, float32; both sides start from the features. torch-fidelity has no density and no coverage, and
holds distance matrices of N^2; here the distances are in float64 and a block at a time. Peak memory is measured
in a new process, beyond the features. The numbers are compared first. Writes benchmarks/results/metrics.csv.
"""

import argparse
import csv
import ctypes
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

import fastgan
from benchmarks.interleaved import hardware, percentiles, ratio, results
from fastgan import metrics

WIDTH = 2048


def features(count):
    source = torch.Generator().manual_seed(0)
    basis = torch.randn(WIDTH, WIDTH, generator=source) * torch.logspace(0, -2, WIDTH) / 4
    make = lambda: (torch.randn(count, WIDTH, generator=source) @ basis).relu_()  # noqa: E731
    return make(), make() * 1.05


def ours_fid(real, fake):
    return metrics.frechet_distance(real, fake)


def theirs_fid(real, fake):
    statistics = [fid_features_to_statistics(x) for x in (real, fake)]
    return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


def ours_kid(real, fake):
    return metrics.kernel_distance(real, fake).mean


def theirs_kid(real, fake):
    return kid_features_to_metric(real, fake, verbose=False)["kernel_inception_distance_mean"]


def ours_neighbours(real, fake):
    return metrics.precision_recall_density_coverage(real, fake, k=5).precision


def theirs_neighbours(real, fake):
    return prc_features_to_metric(fake, real, prc_neighborhood=5, verbose=False)["precision"]


PARTS = {
    "FID": (ours_fid, theirs_fid),
    "KID": (ours_kid, theirs_kid),
    "PRDC / PR": (ours_neighbours, theirs_neighbours),
}


def peak_bytes(part, side, count, threads):
    """Peak resident memory of the call in a new process."""
    torch.set_num_threads(threads)
    inputs = features(count)
    ctypes.CDLL(None).malloc_trim(0)  # returns the memory that making the features freed
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak of making the features
    before = _status("VmRSS")
    PARTS[part][side](*inputs)
    return _status("VmHWM") - before


def _status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--count", type=int, default=10_000)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    inputs = features(args.count)
    seconds = {name: [[], []] for name in PARTS}
    for round_number in range(args.rounds):
        for name, sides in PARTS.items():
            values = [0.0, 0.0]
            for side in (0, 1) if round_number % 2 else (1, 0):
                start = time.perf_counter()
                values[side] = sides[side](*inputs)
                seconds[name][side].append(time.perf_counter() - start)
            if not abs(values[0] - values[1]) <= 1e-3 * abs(values[1]):
                raise SystemExit(f"{name}: {values[0]} against {values[1]}; nothing is recorded")
    seconds["together"] = [[sum(t) for t in zip(*(s[side] for s in seconds.values()), strict=True)] for side in (0, 1)]

    rows = []
    about = [hardware("cpu"), args.threads, torch.__version__, fastgan.__version__]
    for name, (ours, theirs) in seconds.items():
        memory = [0, 0]
        if name in PARTS:
            for side in (0, 1):
                with ProcessPoolExecutor(1, get_context("spawn")) as process:
                    memory[side] = process.submit(peak_bytes, name, side, args.count, args.threads).result() / 2**20
        else:
            memory = [max(float(row[i]) for row in rows) for i in (6, 7)]
        faster = ratio({"theirs": theirs, "ours": ours}, "theirs", "ours")
        numbers = (percentiles(ours).median, percentiles(theirs).median, faster.median, faster.p20, faster.p80)
        rows.append([name, *(f"{n:.4g}" for n in numbers), *(f"{m:.0f}" for m in memory), args.count, *about])
        print(
            f"{name:10} {numbers[0]:7.2f} s, torch-fidelity {numbers[1]:7.2f} s: {faster} x;"
            f" peak {memory[0]:.0f} MiB, torch-fidelity {memory[1]:.0f} MiB"
        )
    with (results("cpu") / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        columns = "metric seconds torch_fidelity_seconds speedup_median speedup_p20 speedup_p80 peak_mib"
        writer.writerow(
            [*columns.split(), "torch_fidelity_peak_mib", "count", "hardware", "threads", "torch", "fastgan"]
        )
        writer.writerows(rows)


if __name__ == "__main__":
    main()
