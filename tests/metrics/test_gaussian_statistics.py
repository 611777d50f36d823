import os
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from fastgan import metrics
from fastgan.metrics import GaussianStatistics

ROOT = Path(__file__).parents[2]


def features(n=300, d=5, shift=1e5):
    return shift + torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def check(statistics, x):
    assert statistics.n == len(x)
    torch.testing.assert_close(statistics.mean, x.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(statistics.covariance, torch.cov(x.T), rtol=1e-9, atol=1e-9)


def test_batches_of_any_size_give_what_the_whole_gives():
    x = features()
    statistics = GaussianStatistics()
    for batch in x.split([1, 99, 7, 193]):
        statistics.update(batch)
    check(statistics, x)
    wide = features(64, 1100, 0)  # wider than one block of columns
    check(GaussianStatistics.of(wide), wide)


def test_half_precision_features_are_summed_in_double():
    x = features(500, 4, 0).half()
    check(GaussianStatistics.of(x), x.double())


def test_merging_is_as_seeing_all():
    x = features()
    check(GaussianStatistics.of(x[:100]).merge(GaussianStatistics.of(x[100:])).merge(GaussianStatistics()), x)


def test_saved_statistics_are_the_same(tmp_path):
    x = features()
    GaussianStatistics.of(x, "cnn#1").save(tmp_path / "real.safetensors")
    loaded = GaussianStatistics.load(tmp_path / "real.safetensors")
    check(loaded, x)
    assert loaded.extractor == "cnn#1"
    assert metrics.frechet_distance(loaded, GaussianStatistics.of(x + 1, "cnn#1")) == pytest.approx(5)


def test_statistics_of_different_extractors_do_not_mix(tmp_path):
    from safetensors.torch import save_file

    a, b = GaussianStatistics.of(features(), "cnn#1"), GaussianStatistics.of(features(), "cnn#2")
    for call in (metrics.frechet_distance, GaussianStatistics.merge):
        with pytest.raises(ValueError, match="different extractors do not compare: cnn#1 and cnn#2"):
            call(a, b)
    with pytest.raises(ValueError, match="5 columns as before, got 3"):
        a.update(features(d=3))
    save_file({"mean": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no statistics"):
        GaussianStatistics.load(tmp_path / "other.safetensors")


def _process(rank, store, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    x = features()
    part = GaussianStatistics.of(x[:50] if rank == 0 else x[50:]).reduce()
    part.save(results / f"{rank}.safetensors")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # all is saved; on a busy machine gloo's threads can abort a process that shuts down in the usual way


def test_processes_reduce_to_the_statistics_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])  # where the processes find this file, before others' tests
    mp.spawn(_process, (tmp_path / "store", tmp_path), nprocs=2)
    for rank in range(2):
        check(GaussianStatistics.load(tmp_path / f"{rank}.safetensors"), features())
    alone = GaussianStatistics.of(features()).reduce()
    check(alone, features())
