"""A CSV of results that grows: rows by key, with the machine and the versions that they were measured on."""

import csv
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.interleaved import hardware

ABOUT = ("hardware", "driver", "torch", "triton", "fastgan")


def about(device):
    """name -> text of the machine and the versions. driver: of an NVIDIA GPU; empty on a CPU."""
    driver = ""
    if device == "cuda" and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    try:
        triton = version("triton")
    except PackageNotFoundError:
        triton = ""
    return dict(zip(ABOUT, (hardware(device), driver, torch.__version__, triton, version("fastgan")), strict=True))


class Rows:
    """Adds rows to a CSV at once, so that a benchmark that was stopped goes on. key, numbers: names of the columns.

    `values in rows`: whether there is a row with this key from this machine and these versions.
    """

    def __init__(self, path, key, numbers, device):
        self.path, self.key, self.about = Path(path), tuple(key), about(device)
        self.columns = (*key, *numbers, *ABOUT)
        self.rows = []
        if self.path.exists():
            with self.path.open(newline="") as file:
                self.rows = list(csv.DictReader(file))

    def __contains__(self, values):
        wanted = {k: str(v) for k, v in zip(self.key, values, strict=True)} | self.about
        return any(all(row.get(name) == value for name, value in wanted.items()) for row in self.rows)

    def add(self, values, numbers):
        """Add a row; a row with the same key, machine and versions is replaced."""
        row = dict(zip(self.columns, (*map(str, values), *map(str, numbers), *self.about.values()), strict=True))
        same = (*self.key, *ABOUT)
        self.rows = [old for old in self.rows if any(old.get(name) != row[name] for name in same)] + [row]
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)
