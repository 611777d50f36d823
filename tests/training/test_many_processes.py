"""Two processes train the pair that one process trains on the same whole batches."""

import json
import os
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import nn

from fastgan import Recipe, Trainer, models
from fastgan.nn import MinibatchStdDev
from fastgan.penalties.four_passes import graph
from fastgan.training import Callback
from fastgan.training import trainer as trainer_module

ROOT = Path(__file__).parents[2]
WORLD, STEPS, BATCH = 2, 20, 8
QUIET = {"progress": False, "log_every": 5, "sample_every": 100, "checkpoint_every": 100, "device": "cpu"}


class Data:
    """Samples in double precision, so that nothing but the order of sums differs."""

    def __init__(self, *shape, classes=3):
        source = torch.Generator().manual_seed(0)
        self.samples = torch.randn(40, *shape, generator=source, dtype=torch.float64).clamp(-1, 1)
        self.labels = torch.randint(classes, (40,), generator=source)
        self.shape, self.classes = shape, tuple(map(str, range(classes)))

    def __len__(self):
        return len(self.samples)

    def batch(self, indices):
        return self.samples[indices], self.labels[indices]


class Points(nn.Module):
    def __init__(self, classes=None):
        super().__init__()
        self.z_dim, self.classes, self.shape = 3, classes, (2,)
        self.embedding = nn.Embedding(classes, 3) if classes else None
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, z, labels=None):
        return self.layers(z if labels is None else z + self.embedding(labels))


class JudgesPoints(nn.Module):
    def __init__(self, classes=None, pack=1, norm=nn.Identity):
        super().__init__()
        self.embedding = nn.Embedding(classes, 2) if classes else None
        self.layers = nn.Sequential(nn.Linear(2 * pack, 16), norm(), nn.LeakyReLU(0.2), nn.LazyLinear(1))

    def forward(self, x, labels=None):
        return self.layers(x if labels is None else x + self.embedding(labels)).squeeze(1)

    def features(self, x):
        return self.layers[0](x)


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.z_dim, self.shape = 3, (2, 8, 8)
        self.layers = nn.Sequential(
            nn.Linear(3, 64), nn.Unflatten(1, (4, 4, 4)), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2, 2)
        )

    def forward(self, z):
        return self.layers(z).tanh()


class JudgesImages(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 6, 3, 2), nn.LeakyReLU(0.2), nn.Conv2d(6, 6, 3), nn.LeakyReLU(0.2))
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        return self.head(self.features(x).flatten(1)).squeeze(1)


def growing():
    pair = models.create("progressive", channels=1, resolution=8, width=8, z_dim=4)
    for module in pair.discriminator.modules():
        if isinstance(module, MinibatchStdDev):
            module.group_size = 1
    return tuple(pair)


def points(**of_critic):
    return Points(of_critic.get("classes")), JudgesPoints(**of_critic)


def images():
    return Images(), JudgesImages()


SETTINGS = {"batch_size": BATCH, "generator_lr": 1e-3, "discriminator_lr": 2e-3, "eps": 1e-6, "ema_decay": 0.9}
RUNS = {
    "WGAN-GP": (points, (2,), {"loss": "wasserstein", "penalties": ("WGANGP()",), "discriminator_steps": 2}),
    "R1 and R2 in four passes": (
        images,
        (2, 8, 8),
        {"loss": "relativistic_paired", "penalties": ("R1(gamma=0.5)", "R2(gamma=0.5, every=3)")},
    ),
    "fused spectral norm": (images, (2, 8, 8), {"spectral_norm": "both"}),
    "packs, both players at once": (
        partial(points, pack=2),
        (2,),
        {"loss": "non_saturating", "pack": 2, "update": "simultaneous", "penalties": ("DRAGAN(variant='code')",)},
    ),
    "relativistic average": (
        images,
        (2, 8, 8),
        {
            "loss": "relativistic_average_hinge",
            "penalties": ("R1()", "LeCam()"),
            "generator_terms": ("FeatureMatching()",),
        }
        | {"augment": ""},
    ),
    "adaptive augmentation": (
        images,
        (2, 8, 8),
        {"augment": "color,translation,cutout", "augment_target": 0.1, "augment_images": 200}
        | {"penalties": ("Consistency()", "R1(every=2)")},
    ),
    "batch norm in the critic": (partial(points, norm=partial(nn.BatchNorm1d, 16)), (2,), {}),
    "growing": (
        growing,
        (1, 8, 8),
        {"loss": "wasserstein", "penalties": ("WGANGP(allow_coupled=True)",)}
        | {"progressive": "ProgressiveSchedule(phase_images=40, batch_sizes=(16, 8))"},
    ),
    "unrolled": (
        points,
        (2,),
        {"loss": "minimax", "unroll_steps": 2, "unroll_recompute": True, "penalties": ("WGANGP(weight=0.1)",)},
    ),
    "path lengths of labelled parts": (
        partial(points, classes=3),
        (2,),
        {"generator_terms": ("PathLength()",), "accumulate": 2, "penalties": ("LeCam()",), "generator_steps": 2},
    ),
}


def train(name, folder, steps=STEPS, **options):
    make, shape, settings = RUNS[name]
    torch.manual_seed(0)
    trainer = Trainer(*make(), Recipe(**SETTINGS | settings), Data(*shape), run_dir=folder / name, **QUIET | options)
    trainer.fit(steps)
    return trainer


def outcome(trainer):
    tensors = {f"{k}.{n}": t for k, v in trainer.state.networks().items() for n, t in v.state_dict().items()}
    tensors |= {f"{k}.{n}": t for k, v in trainer.state.memory.items() for n, t in v.items()}
    return tensors, trainer.route


@contextmanager
def in_double_precision():
    """And without pictures; critics of any size take the four passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer_module, "check_parameters", lambda *networks: None)
        patch.setattr(trainer_module, "Pictures", lambda *settings: Callback())
        patch.setattr(graph, "LEAST_WORK", 0)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)


def two_processes(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    with in_double_precision():
        torch.save({name: outcome(train(name, folder)) for name in RUNS}, folder / f"{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # all is saved; on a busy machine gloo's threads can abort a process that shuts down in the usual way


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder, alone = tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])  # where the processes find this file
        torch.multiprocessing.spawn(two_processes, args=(folder,), nprocs=WORLD)
    with in_double_precision():
        one = {name: (outcome(train(name, alone)), logged(alone / name)) for name in RUNS}
    two = [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]
    return one, two, {name: logged(folder / name) for name in RUNS}


def logged(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("watch", "steps_per"))} for row in rows]


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_equal_one(outcomes, name):
    one, two, logs = outcomes
    (wanted, route), wanted_log = one[name]
    for tensors, _ in (of_rank[name] for of_rank in two):
        for key, tensor in tensors.items():
            torch.testing.assert_close(tensor, wanted[key], rtol=1e-9, atol=1e-9, msg=f"{name}: {key}")
    assert two[0][name][1] == route
    for row, wanted_row in zip(logs[name], wanted_log, strict=True):
        assert row == pytest.approx(wanted_row, rel=1e-5, abs=1e-6)
