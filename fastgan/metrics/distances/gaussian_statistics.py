"""Mean and covariance of features that stream by, in float64."""

import json
from pathlib import Path
from typing import Any

import torch

from fastgan.atomic_file import replacing
from fastgan.extras import require
from fastgan.metrics.features.feature_tensor import check_features

ROWS = 4096  # of a batch that are taken to float64 at a time
COLUMNS = 256  # the scatter matrix is symmetric: only its blocks on and above the diagonal are computed


class GaussianStatistics:
    """n, mean (D,) and scatter (D, D) = sum_i (x_i - mean)(x_i - mean)^T of all features seen, O(D^2) memory, float64.

    Batches are merged by Chan, Golub and LeVeque's update (1979), which does not cancel however far the mean lies from
    zero. `extractor` names what made the features; statistics of different extractors do not mix (ValueError).
    """

    def __init__(self, extractor: str | None = None) -> None:
        self.extractor, self.n = extractor, 0
        self.mean: Any = None  # a tensor once n is above 0, as the scatter is
        self.scatter: Any = None

    @classmethod
    def of(cls, features: torch.Tensor, extractor: str | None = None) -> "GaussianStatistics":
        """The statistics of one set (N, D)."""
        return cls(extractor).update(features)

    @classmethod
    def from_moments(
        cls, mean: torch.Tensor, covariance: torch.Tensor, n: int, extractor: str | None = None
    ) -> "GaussianStatistics":
        """The statistics that have this mean (D,) and this unbiased covariance (D, D)."""
        self = cls(extractor)
        self.n, self.mean, self.scatter = n, mean.double(), covariance.double() * (n - 1)
        return self

    @property
    def covariance(self) -> torch.Tensor:
        """scatter / (n - 1)"""
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {self.n}")
        return self.scatter / (self.n - 1)

    def update(self, features: torch.Tensor) -> "GaussianStatistics":
        """Take in a batch (B, D) of any floating-point dtype, on any device that has float64. Returns self."""
        for rows in check_features(features, "features", 1).split(ROWS):
            rows = rows.double()
            mean = rows.mean(0)
            self._merge(len(rows), mean, _scatter(rows - mean))
        return self

    def merge(self, other: "GaussianStatistics") -> "GaussianStatistics":
        """Take in what other statistics have seen. Returns self."""
        same_extractor(self, other)
        if other.n:
            self._merge(other.n, other.mean, other.scatter.clone())
        return self

    def reduce(self, group: Any = None) -> "GaussianStatistics":
        """Merge over all processes of torch.distributed, after which each has the whole; alone: nothing. Returns self.

        Every process must have seen at least one batch, and must call.
        """
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return self
        if self.n == 0:
            raise ValueError("features: this process has seen none, and each must have seen a batch before reduce()")
        total = torch.tensor([self.n], dtype=torch.float64, device=self.mean.device)
        distributed.all_reduce(total, group=group)
        mean = self.mean * (self.n / total)
        distributed.all_reduce(mean, group=group)
        delta = self.mean - mean
        scatter = torch.addr(self.scatter, delta, delta, alpha=self.n)
        distributed.all_reduce(scatter, group=group)
        self.n, self.mean, self.scatter = int(total), mean, scatter
        return self

    def save(self, path: Path | str) -> None:
        """As safetensors, whole or not at all: what real data costs is paid once."""
        tensors = {"mean": self.mean.cpu(), "scatter": self.scatter.cpu()}
        about = {"fastgan_statistics": json.dumps({"n": self.n, "extractor": self.extractor})}
        with replacing(path) as unfinished:
            require("safetensors.torch").save_file(tensors, unfinished, metadata=about)

    @classmethod
    def load(cls, path: Path | str) -> "GaussianStatistics":
        """The inverse of save. Errors: ValueError for a file that holds something else."""
        safetensors = require("safetensors")
        try:
            opened = safetensors.safe_open(path, "pt")
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path}: holds no statistics of features: {error}") from None
        with opened as file:
            about = (file.metadata() or {}).get("fastgan_statistics")
            if about is None or set(file.keys()) != {"mean", "scatter"}:
                raise ValueError(f"{path}: holds no statistics of features")
            about = json.loads(about)
            self = cls(about["extractor"])
            self.n, self.mean, self.scatter = about["n"], file.get_tensor("mean"), file.get_tensor("scatter")
        return self

    def _merge(self, n: int, mean: torch.Tensor, scatter: torch.Tensor) -> None:
        if self.n == 0:
            self.n, self.mean, self.scatter = n, mean, scatter
            return
        if mean.shape != self.mean.shape:
            raise ValueError(f"features must have {len(self.mean)} columns as before, got {len(mean)}")
        delta, total = mean - self.mean, self.n + n
        self.scatter += scatter
        self.scatter.addr_(delta, delta, alpha=self.n * n / total)
        self.mean = self.mean + delta * (n / total)
        self.n = total


def same_extractor(a: GaussianStatistics, b: GaussianStatistics) -> None:
    if a.extractor != b.extractor:
        raise ValueError(f"features of different extractors do not compare: {a.extractor} and {b.extractor}")


def _scatter(rows):
    """rows^T rows, (D, D)"""
    width = rows.shape[1]
    out = rows.new_empty(width, width)
    for start in range(0, width, COLUMNS):
        stop = min(start + COLUMNS, width)
        block = rows[:, start:stop].T @ rows[:, start:]  # (stop - start, D - start)
        out[start:stop, start:] = block
        out[stop:, start:stop] = block[:, stop - start :].T
    return out
