"""Fair timing on a machine that others use as well: all candidates take turns, and ratios are taken within a turn."""

import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Percentiles:
    p20: float
    median: float
    p80: float

    def __str__(self):
        return f"{self.median:.2f} ({self.p20:.2f} .. {self.p80:.2f})"


def percentiles(values):
    values = torch.tensor(values, dtype=torch.float64)
    return Percentiles(*(values.quantile(p).item() for p in (0.2, 0.5, 0.8)))


def interleaved(candidates, rounds=30, seconds_per_turn=0.05):
    """Seconds per call, one list of `rounds` values for each name in candidates (name -> function of no argument)."""
    calls = {name: _calls_in(function, seconds_per_turn) for name, function in candidates.items()}
    seconds = {name: [] for name in candidates}
    names = list(candidates)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:  # nobody always runs after the same neighbour
            start = time.perf_counter()
            for _ in range(calls[name]):
                candidates[name]()
            _wait()
            seconds[name].append((time.perf_counter() - start) / calls[name])
    return seconds


def ratio(seconds, baseline, candidate):
    """How many times faster than the baseline, round by round."""
    return percentiles([b / c for b, c in zip(seconds[baseline], seconds[candidate], strict=True)])


def hardware(device):
    if device == "cuda":
        return torch.cuda.get_device_name()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def results(device):
    """The device's folder of results: benchmarks/results, or a folder in it for each GPU."""
    folder = Path(__file__).parent / "results"
    if device == "cuda":
        folder /= hardware(device).replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _calls_in(function, seconds):
    """How many calls take that long, after some to warm up. seconds = 0: one call a turn, one to warm up."""
    for _ in range(3 if seconds else 1):
        function()
    _wait()
    if not seconds:
        return 1
    start = time.perf_counter()
    function()
    _wait()
    return max(1, round(seconds / (time.perf_counter() - start)))


def _wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()
