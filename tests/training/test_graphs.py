"""Updates as CUDA graphs, with a stand-in for the GPU's graph that runs the captured function again."""

import warnings
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan import Recipe, Trainer
from fastgan.penalties.four_passes import visit
from fastgan.training.recipe.presets import RECIPES
from fastgan.training.step import graphs

EAGER = {"unrolled": "unroll_steps > 0 reads the optimiser's state on the host"}
POINTS = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))


class RunsAgain:
    """As a GPU's graph: a capture computes nothing, and a replay fills the same tensors again."""

    def __init__(self, state):
        self.state, self.captured, self.replays, self.waits = state, 0, 0, None

    def running(self):
        return nullcontext()

    def watched(self, run):
        with NoWait(), patch.object(visit, "may_wait", lambda x: False):  # a CPU has no mode that reports waits
            return run(), self.waits

    def capture(self, run):
        with self._undone():
            found = run()
        for tensor in tensors_of(found):
            tensor.fill_(torch.nan)
        self.captured += 1

        def replay():
            self.replays += 1
            for own, new in zip(tensors_of(found), tensors_of(run()), strict=True):
                own.copy_(new.detach())

        return replay, found

    @contextmanager
    def _undone(self):
        kept = [(t, t.detach().clone()) for t in held_by(self.state)]
        with torch.random.fork_rng([]):
            yield
        with torch.no_grad():
            for tensor, value in kept:
                tensor.copy_(value)


class NoWait(TorchDispatchMode):
    """Fails at an op for whose result the host would wait on a GPU."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "bincount", "_unique2")

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        assert op.overloadpacket.__name__ not in self.WAITS, op
        return op(*args, **(kwargs or {}))


def tensors_of(found):
    """Those that a capture returns, the parameters that gradients belong to left out."""
    if isinstance(found, torch.Tensor):
        return [] if isinstance(found, nn.Parameter) else [found.detach()]
    if isinstance(found, dict):
        found = found.values()
    return [t for part in found for t in tensors_of(part)] if not isinstance(found, (str, type(None))) else []


def held_by(state):
    of_networks = [t for n in state.networks().values() for t in n.state_dict(keep_vars=True).values()]
    return of_networks + [t for entries in state.memory.values() for t in entries.values()]


def with_stand_in(trainer):
    trainer.graphs = graphs.Graphs(RunsAgain(trainer.state))
    return trainer


def assert_same(replayed, eager):
    for a, b in zip(held_by(replayed.state), held_by(eager.state), strict=True):
        assert torch.equal(a, b)
    seen = [trainer.callbacks[0].values for trainer in (replayed, eager)]
    for a, b in zip(*seen, strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", RECIPES)
def test_replayed_steps_have_the_bits_of_eager_ones(name, toy, tmp_path, steps=5):
    eager, replayed = (toy.named_trainer(name, tmp_path / kind) for kind in ("eager", "replayed"))
    eager.fit(steps)
    reason = graphs.why_eager(replayed.recipe, replayed.schedule.terms.changing)
    assert reason == EAGER.get(name)
    if reason is None:
        with_stand_in(replayed).fit(steps)
        assert replayed.graphs.capture.replays >= 2 * replayed.graphs.capture.captured > 0
        assert_same(replayed, eager)


@pytest.mark.parametrize(
    "fields",
    [
        {"penalties": ("R1(gamma=1.0, every=3)", "R2(gamma=1.0)", "LeCam()"), "optimizer": "sgd"},
        {"penalties": ("R1(gamma=1.0)",), "schedules": ("Schedule('R1.gamma', to=9.0, steps=20)",)},
        {"update": "simultaneous", "penalties": ("R2(gamma=1.0)",), "precision": "fp16"},
        {"accumulate": 2, "penalties": ("LeCam()",), "generator_terms": ("PathLength(every=2)",), "precision": "bf16"},
        {"pack": 2, "discriminator_steps": 2, "generator_steps": 2, "penalties": ("WeightClip(0.1)",)},
    ],
)
def test_each_set_of_due_terms_has_its_graph(toy, fields, tmp_path):
    recipe, found = Recipe(batch_size=8, generator_lr=1e-2, spectral_norm="both", **fields), []
    for kind in ("eager", "replayed"):
        generator, discriminator = toy.pair(dropout=0.2)
        discriminator.layers[0] = nn.Linear(2 * recipe.pack, 8)
        found.append(toy.trainer_of(recipe, (generator, discriminator), POINTS, tmp_path / kind))
    found[0].fit(20)
    with_stand_in(found[1]).fit(20)
    assert_same(found[1], found[0])
    lazy = any("every" in term for term in (*fields.get("penalties", ()), *fields.get("generator_terms", ())))
    kinds = 1 if recipe.update == "simultaneous" else 3 if lazy else 2
    assert found[1].graphs.capture.captured == len(found[1].graphs.replayed) == kinds


class Replaces(nn.Module):
    """A layer that puts a new tensor in the place of its buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, x):
        self.mean = 0.5 * self.mean + 0.5 * x.detach().mean(0)
        return x - self.mean.clone()


def test_a_buffer_that_a_forward_replaces_moves_on(toy, tmp_path):
    found = []
    for kind in ("eager", "replayed"):
        generator, discriminator = toy.pair()
        pair = generator, nn.Sequential(Replaces(), discriminator)
        found.append(toy.trainer_of(Recipe(batch_size=8, spectral_norm="none"), pair, POINTS, tmp_path / kind))
    found[0].fit(8)
    with_stand_in(found[1]).fit(8)
    assert_same(found[1], found[0])


def test_an_update_that_waits_for_the_gpu_goes_on_eagerly_and_says_so(toy, tmp_path):
    trainer = with_stand_in(toy.trainer_of(Recipe(batch_size=8), toy.pair(), POINTS, tmp_path))
    trainer.graphs.capture.waits = "the update makes the host wait for the GPU"
    with pytest.warns(UserWarning, match="update of the discriminator is not replayed as a CUDA graph, because the"):
        trainer.fit(6)
    assert trainer.graphs.capture.captured == 0 and trainer.state.step == 6


def test_a_capture_that_fails_leaves_the_run_as_it_was(toy, tmp_path):
    found = []
    for kind in ("eager", "replayed"):
        found.append(
            toy.trainer_of(
                Recipe(batch_size=8), (toy.pair()[0], nn.Sequential(Replaces(), toy.pair()[1])), POINTS, tmp_path / kind
            )
        )
    with_stand_in(found[1])
    capture = found[1].graphs.capture.capture

    def fails(run):
        capture(run)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    found[1].graphs.capture.capture = fails
    found[0].fit(6)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found[1].fit(6)
    assert sum("because operation not permitted when stream is capturing" in str(w.message) for w in said) == 2
    assert_same(found[1], found[0])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"unroll_steps": 1}, "unroll_steps"),
        ({"compile": True}, "compile has graphs of its own"),
        ({"penalties": ("WGANGP()",), "schedules": ("Schedule('WGANGP.target', to=2.0, steps=9)",)}, "WGANGP.target"),
        ({}, None),
    ],
)
def test_a_recipe_that_cannot_be_captured_says_why(fields, reason, toy, tmp_path):
    recipe = Recipe(**fields)
    trainer = Trainer(*toy.pair(), recipe, POINTS, run_dir=tmp_path, device="cpu")
    assert trainer.graphs is None
    why = graphs.why_eager(recipe, trainer.schedule.terms.changing)
    assert why is None if reason is None else reason in why
    with pytest.raises(ValueError, match="cuda_graphs must be False or None here: they need a CUDA device, got 'cpu'"):
        Trainer(*toy.pair(), recipe, POINTS, run_dir=tmp_path, device="cpu", cuda_graphs=True)


def test_a_step_of_ones_own_is_replayed():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    state = type("State", (), {"networks": lambda self: {"a": network}, "memory": {}})()
    capture = RunsAgain(state)

    def step(x, y):
        loss = (network(x) - y).square().mean()
        loss.backward()
        return {"loss": loss.detach(), "parts": [x.sum()]}

    examples = torch.randn(4, 2), torch.randn(4, 1)
    replayed = graphs._graphed(step, examples, (network,), capture)
    kept = []
    for _ in range(5):
        x, y = torch.randn(4, 2), torch.randn(4, 1)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        kept.append((replayed(x, y), x))
        found = [p.grad.clone() for p in network.parameters()]
        network.load_state_dict(before)
        network.zero_grad()
        expected = step(x, y)
        assert torch.equal(kept[-1][0]["loss"], expected["loss"])
        assert all(torch.equal(a, p.grad) for a, p in zip(found, network.parameters(), strict=True))
    assert capture.captured == 1 and capture.replays == 3
    assert all(torch.equal(out["parts"][0], x.sum()) for out, x in kept), "a result is not overwritten by later calls"
    with pytest.raises(ValueError, match="inputs must be like example_inputs"):
        replayed(torch.randn(5, 2), torch.randn(5, 1))
    on_cpu = graphs.graphed(step, examples, networks=(network,))
    assert torch.equal(on_cpu(*examples)["loss"], step(*examples)["loss"])
