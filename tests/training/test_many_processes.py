"""Two processes train the pair that one process trains on the same whole batches."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import nn
from torch.distributed.fsdp import fully_shard

from fastgan import Recipe, Trainer, models, processes
from fastgan.cli import main
from fastgan.nn import MinibatchStdDev
from fastgan.penalties.four_passes import graph
from fastgan.training import Callback, distributed
from fastgan.training import trainer as trainer_module
from fastgan.training.run.sharding import Sharding

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


SETTINGS = {"batch_size": BATCH, "generator_lr": 1e-3, "discriminator_lr": 2e-3, "eps": 1e-4, "ema_decay": 0.9}
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
    "statistics of batch norm apart": (points, (2,), {"sync_batch_norm": False}),
    "minibatch standard deviation": (
        partial(points, norm=partial(MinibatchStdDev, 2)),
        (2,),
        {"sync_batch_norm": False},
    ),
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


def train(name, folder, steps=STEPS, accumulate=1, **options):
    make, shape, settings = RUNS[name]
    torch.manual_seed(0)
    recipe = Recipe(**SETTINGS | {"accumulate": accumulate} | settings)
    trainer = Trainer(*make(), recipe, Data(*shape), run_dir=folder / name, **QUIET | options)
    trainer.fit(steps)
    return trainer


def outcome(trainer):
    tensors = {f"{k}.{n}": t for k, v in trainer.state.networks().items() for n, t in v.state_dict().items()}
    tensors |= {f"{k}.{n}": t for k, v in trainer.state.memory.items() for n, t in v.items()}
    return {k: t.full_tensor() if hasattr(t, "full_tensor") else t for k, t in tensors.items()}, trainer.route


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


RESUMED = "R1 and R2 in four passes"
SHARDED = "fused spectral norm"


def two_processes(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    with in_double_precision():
        found = {name: outcome(train(name, folder)) for name in RUNS}
        found["one, then two"] = outcome(train(RESUMED, folder / "one_then_two", resume=True))
        train(RESUMED, folder / "two_then_one", steps=10)
        train(SHARDED, folder / "sharded", steps=10, shard=fully_shard)
        found["sharded"] = outcome(train(SHARDED, folder / "sharded", resume=True, shard=fully_shard))
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # all is saved; on a busy machine gloo's threads can abort a process that shuts down in the usual way


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder, alone = tmp_path_factory.mktemp("two"), tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(ROOT), *sys.path])  # where the processes find this file
        with in_double_precision():
            train(RESUMED, folder / "one_then_two", steps=10)
        torch.multiprocessing.spawn(two_processes, args=(folder,), nprocs=WORLD)
    with in_double_precision():
        one = {name: (outcome(train(name, alone)), logged(alone / name)) for name in EQUAL}
        one["in parts"] = outcome(train("minibatch standard deviation", alone, accumulate=2))
        one["from sharded"] = outcome(train(SHARDED, folder / "sharded", resume=True))
        one["two, then one"] = outcome(train(RESUMED, folder / "two_then_one", resume=True))
    two = [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]
    return one, two, {name: logged(folder / name) for name in RUNS}


def logged(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("watch", "steps_per"))} for row in rows]


EQUAL = [name for name in RUNS if name not in ("statistics of batch norm apart", "minibatch standard deviation")]


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_equal_one(outcomes, name):
    one, two, logs = outcomes
    (wanted, route), wanted_log = one[name]
    for of_rank in two:
        assert_equal(of_rank[name][0], wanted)
    assert two[0][name][1] == route
    for row, wanted_row in zip(logs[name], wanted_log, strict=True):
        assert row == pytest.approx(wanted_row, rel=1e-5, abs=1e-6)


def assert_equal(found, wanted, tolerance=1e-9):
    for key, tensor in found.items():
        torch.testing.assert_close(tensor, wanted[key], rtol=tolerance, atol=tolerance, msg=key)


def test_a_run_goes_on_with_another_number_of_processes(outcomes):
    one, two, _ = outcomes
    assert_equal(two[1]["one, then two"][0], one[RESUMED][0][0])
    assert_equal(one["two, then one"][0], one[RESUMED][0][0])


def test_a_sharded_generator_trains_is_saved_and_goes_on(outcomes):
    one, two, _ = outcomes
    assert_equal(two[1]["sharded"][0], one[SHARDED][0][0])
    assert_equal(one["from sharded"][0], one[SHARDED][0][0])


def test_what_a_sharded_generator_cannot_do_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="several processes"):
        Sharding(None, Recipe(), fully_shard)
    monkeypatch.setattr(processes, "world", lambda: 2)
    for settings, said in (({"generator_terms": ("PathLength()",)}, "PathLength"), (RUNS["growing"][2], "progressive")):
        with pytest.raises(ValueError, match=said):
            Sharding(None, Recipe(**settings), fully_shard)


def test_batch_norm_apart_has_the_same_statistics_in_all_processes(outcomes):
    _, two, _ = outcomes
    first, second = (of_rank["statistics of batch norm apart"][0] for of_rank in two)
    assert_equal(second, first, tolerance=0)


def test_groups_of_the_minibatch_standard_deviation_lie_within_a_process(outcomes):
    """As they lie within a part of an accumulated batch: two processes equal one that cuts its batches in two."""
    one, two, _ = outcomes
    found = two[0]["minibatch standard deviation"][0]
    assert_equal({k: v for k, v in found.items() if k.endswith(("weight", "bias"))}, one["in parts"][0])


DIES_ONCE = """
import os, signal, sys
from fastgan.cli import main
from fastgan.training import Trainer

step = Trainer._step
def dies_once(self, plan, stream):
    if (os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"], plan.step) == ("1", "0", 15):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, plan, stream)
Trainer._step = dies_once
sys.exit(main(sys.argv[1:]))
"""


def test_torchrun_goes_on_from_the_checkpoint_when_a_process_was_killed(tmp_path):
    flags = ["train", "--data=ring", "--width=8", "--batch-size=16", "--steps=20", "--checkpoint-every=10"]
    flags += ["--log-every=5", "--no-progress", "--device=cpu", "--eps=1e-3", "--run-dir"]
    (tmp_path / "dies_once.py").write_text(DIES_ONCE)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=1", "--standalone"]
    command = [*torchrun, str(tmp_path / "dies_once.py"), *flags, str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "fastgan: another process of the run has ended" in done.stderr
    assert "from step 10 (the newest whole checkpoint) to step 20" in done.stdout
    assert main([*flags, str(tmp_path / "one")]) == 0
    assert logged(tmp_path / "two") == [pytest.approx(row, rel=1e-4, abs=1e-5) for row in logged(tmp_path / "one")]
    assert not [name for name in os.listdir(tmp_path / "two") if "unfinished" in name]


@pytest.mark.parametrize("sizes, accumulate", [((6,), 1), ((2,), 1), ((8,), 4), ((8, 12, 6), 1)])
def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch, sizes, accumulate):
    """Uneven, smaller than the number of processes, in parts, of one stage."""
    monkeypatch.setattr(processes, "world", lambda: 4)
    with pytest.raises(ValueError, match=f"multiple of 4 processes.*got {sizes[-1]}"):
        distributed.check_batch(sizes, accumulate)


def test_variables_of_a_launcher_that_are_missing_are_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match=r"LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set.*torchrun"):
        distributed.join("cpu")


def test_other_commands_refuse_to_run_in_several_processes(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(["sample", "--run-dir", "nowhere"]) == 2
    assert "fastgan, process 1: sample runs in one process" in capsys.readouterr().err
    assert main(["train", "--data", "ring"]) == 2
    assert "--run-dir must be given" in capsys.readouterr().err
