"""Penalties through whole critics, and every recipe, on a GPU."""

import copy
from dataclasses import replace

import pytest
import torch

import fastgan
from fastgan import data
from fastgan.penalties.critic import Critic
from fastgan.training import Callback, ProgressiveSchedule, Trainer, graphed, networks
from fastgan.training.compare import observe_modes
from fastgan.training.recipe.presets import RECIPES
from fastgan.training.run.metrics_log import read_metrics

CRITICS = ["dcgan", "sngan", "sagan", "biggan", "wgan_gp", "r3gan"]


def critic_of(name, dtype=torch.float64):
    torch.manual_seed(0)
    critic = fastgan.models.create(name, channels=2, resolution=32, width=16, classes=3).discriminator.to(dtype)
    for module in critic.modules():
        if isinstance(module, fastgan.nn.SelfAttention2d):
            torch.nn.init.ones_(module.gamma)
    return critic


def penalty_gradients(critic, device, dtype, autocast=None):
    generator = torch.Generator().manual_seed(1)
    real, fake = (torch.randn(3, 2, 32, 32, generator=generator, dtype=torch.float64).to(device, dtype) for _ in "rf")
    labels = torch.tensor([0, 2, 1], device=device)
    critic = copy.deepcopy(critic).to(device)
    with torch.autocast("cuda", autocast or torch.bfloat16, enabled=autocast is not None):
        x = ((real + fake) / 2).requires_grad_()
        score = Critic(critic, labels)(x).sum()
    (g,) = torch.autograd.grad(score, x, create_graph=True)
    value = fastgan.ops.grad_norm_penalty(g)
    value.backward()
    return [value.detach(), *(p.grad for p in critic.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", CRITICS)
def test_a_penalty_has_the_cpus_gradients(name):
    critic = critic_of(name)
    ours = penalty_gradients(critic, "cuda", torch.float64)
    cpus = penalty_gradients(critic, "cpu", torch.float64)
    assert len(ours) == len(cpus)
    for a, b in zip(ours, cpus, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", CRITICS)
def test_autocast_is_near_fp32(name, dtype):
    critic = critic_of(name, torch.float32)
    exact = penalty_gradients(critic, "cuda", torch.float32)
    found = penalty_gradients(critic, "cuda", torch.float32, autocast=dtype)
    a, b = (torch.cat([t.flatten().double() for t in gradients[1:]]) for gradients in (found, exact))
    assert (a - b).norm() < 0.1 * b.norm()


WIDTH = {"mlp": 16, "progressive": 8}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_and_its_checkpoint_loads_on_the_cpu(name, tmp_path):
    named = RECIPES[name]
    images = data.load(named.data)
    change = {"batch_size": 6, "discriminator_burst": (0, 0, 0)}
    if named.settings.progressive:
        change["progressive"] = ProgressiveSchedule(phase_images=6)
    recipe = replace(named.settings, **change)
    model = networks.describe(images, named, recipe)
    model["width"] = WIDTH.get(model["name"], 8)
    options = {"progress": False, "log_every": 1, "checkpoint_every": 2, "sample_every": 2}
    Trainer(*networks.build(model, recipe), recipe, images, run_dir=tmp_path, device="cuda", **options).fit(3)
    for row in read_metrics(tmp_path / "metrics.jsonl"):
        numbers = [value for value in row.values() if not isinstance(value, list)]
        assert all(value == value and abs(value) < 1e6 for value in numbers), row
    on_cpu = Trainer(
        *networks.build(model, recipe), recipe, images, run_dir=tmp_path, resume=True, device="cpu", **options
    )
    on_cpu.fit(on_cpu.state.step + 1)


def test_a_gan_learns_a_ring(tmp_path):
    """Not the arithmetic of a step but the whole of it: a few hundred steps on the GPU find most of the modes."""
    named, ring = RECIPES["wgan-gp-toy"], data.load("ring_wgan_gp")
    recipe = replace(named.settings, seed=3)
    pair = networks.build(networks.describe(ring, named, recipe, width=128), recipe)
    trainer = Trainer(*pair, recipe, ring, run_dir=tmp_path, device="cuda", progress=False, sample_every=10**6)
    trainer.fit(1000)
    assert observe_modes(trainer)["modes"] >= 6


class Values(Callback):
    def __init__(self):
        self.seen = []

    def on_step(self, trainer, row):
        self.seen.append({name: value.clone() for name, value in trainer.values.items()})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", RECIPES)
def test_replayed_steps_have_the_bits_of_eager_ones(name, precision, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    named, found = RECIPES[name], []
    images = data.load(named.data)
    change = {"batch_size": 6, "discriminator_burst": (0, 0, 0), "precision": precision}
    if named.settings.progressive:
        change["progressive"] = ProgressiveSchedule(phase_images=60)
    recipe = replace(named.settings, **change)
    model = networks.describe(images, named, recipe)
    model["width"] = WIDTH.get(model["name"], 8)
    for graphs in (False, None):
        options = {"device": "cuda", "progress": False, "cuda_graphs": graphs, "run_dir": tmp_path / str(graphs)}
        trainer = Trainer(*networks.build(model, recipe), recipe, images, **options)
        trainer.callbacks = [Values()]
        trainer.fit(20)
        found.append(trainer)
    eager, replayed = found
    assert (replayed.graphs is None) == (name == "unrolled")
    if replayed.graphs is not None:
        assert not any(of_key.refused for of_key in replayed.graphs.replayed.values())
    for a, b in zip(eager.callbacks[0].seen, replayed.callbacks[0].seen, strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    for key, network in eager.state.networks().items():
        others = replayed.state.networks()[key].state_dict().values()
        assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), others, strict=True)), key


def test_a_run_resumes_with_graphs(tmp_path):
    """The resumed run is eager for two steps and captures again."""
    recipe, images = replace(RECIPES["r1"].settings, batch_size=6, precision="fp16"), data.load("fashion")
    model = networks.describe(images, RECIPES["r1"], recipe) | {"width": 8}
    options = {"device": "cuda", "progress": False, "checkpoint_every": 5, "sample_every": 100}
    whole = Trainer(*networks.build(model, recipe), recipe, images, run_dir=tmp_path / "whole", **options)
    whole.fit(10)
    Trainer(*networks.build(model, recipe), recipe, images, run_dir=tmp_path / "parts", **options).fit(5)
    parts = Trainer(*networks.build(model, recipe), recipe, images, run_dir=tmp_path / "parts", resume=True, **options)
    parts.fit(10)
    for a, b in zip(whole.state.average.parameters(), parts.state.average.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_step_of_ones_own_is_replayed_and_one_that_waits_is_not():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)).cuda()
    example = torch.randn(16, 8, device="cuda")

    def step(x):
        loss = network(x).square().mean()
        loss.backward()
        return loss.detach()

    replayed = graphed(step, (example,), networks=(network,))
    for _ in range(5):
        x = torch.randn_like(example)
        loss = replayed(x)
        ours = [p.grad.clone() for p in network.parameters()]
        network.zero_grad()
        torch.testing.assert_close(loss, step(x))
        for a, p in zip(ours, network.parameters(), strict=True):
            torch.testing.assert_close(a, p.grad)

    def waits(x):
        return x * float(x.sum())

    eager = graphed(waits, (example,))
    with pytest.warns(UserWarning, match="waits is not replayed as a CUDA graph, because it makes the host wait"):
        for _ in range(3):
            torch.testing.assert_close(eager(example), waits(example))
