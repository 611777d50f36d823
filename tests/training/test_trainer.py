import os

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fastgan
from fastgan import Recipe, Trainer
from fastgan.data import TensorData, fashion_mnist
from fastgan.training import Diverged
from fastgan.training.run import checkpoint
from fastgan.training.run.metrics_log import read_metrics

POINTS = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))


def make(toy, run_dir, recipe=None, data=POINTS, networks=None, **kw):
    kw = {"log_every": 2, "sample_every": 4, "checkpoint_every": 100, "progress": False} | kw
    recipe = recipe or Recipe(batch_size=8, discriminator_steps=2)
    return Trainer(*(networks or toy.pair(dropout=0.5)), recipe, data, run_dir=run_dir, device="cpu", **kw)


def all_tensors(folder):
    path = checkpoint.latest(folder / "checkpoints")
    return {p.name: load_file(p) for p in path.glob("*.safetensors")}


def small_images(seed=0, classes=10):
    torch.manual_seed(seed)
    sizes = {"channels": 1, "resolution": 28, "width": 8, "z_dim": 8, "classes": classes}
    return fastgan.models.create("dcgan", **sizes, spectral_norm="both")


def test_six_steps_are_three_and_a_resume_and_three(toy, tmp_path):
    recipe = Recipe(batch_size=8, discriminator_steps=2)
    data = fashion_mnist()
    make(toy, tmp_path / "whole", recipe, data, small_images()).fit(6)
    make(toy, tmp_path / "halves", recipe, data, small_images()).fit(3)
    make(toy, tmp_path / "halves", recipe, data, small_images(seed=9), resume=True).fit(6)
    whole, halves = all_tensors(tmp_path / "whole"), all_tensors(tmp_path / "halves")
    assert whole.keys() == halves.keys()
    for name in whole:
        assert whole[name].keys() == halves[name].keys()
        for key in whole[name]:
            assert torch.equal(whole[name][key], halves[name][key]), (name, key)
    pictures = [(tmp_path / run / "samples" / "step_00000006.png").read_bytes() for run in ("whole", "halves")]
    assert pictures[0] == pictures[1]


def test_resume_is_exact_where_networks_draw_random_numbers_themselves(toy, tmp_path):
    make(toy, tmp_path / "whole").fit(5)
    make(toy, tmp_path / "halves").fit(2)
    torch.manual_seed(123)
    make(toy, tmp_path / "halves", networks=toy.pair(7, dropout=0.5), resume=True).fit(5)
    whole, halves = all_tensors(tmp_path / "whole"), all_tensors(tmp_path / "halves")
    assert all(torch.equal(whole[n][k], halves[n][k]) for n in whole for k in whole[n])


def test_seeds_make_different_runs_and_the_same_seed_the_same(toy, tmp_path):
    weights = []
    for number, seed in enumerate([1, 1, 2]):
        make(toy, tmp_path / str(number), Recipe(batch_size=8, seed=seed)).fit(2)
        weights.append(all_tensors(tmp_path / str(number))["generator.safetensors"]["layers.0.weight"])
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_the_callers_random_numbers_are_left_alone(toy, tmp_path):
    trainer = make(toy, tmp_path)
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    trainer.fit(2)
    assert torch.equal(torch.randn(3), expected)


def test_a_run_leaves_log_pictures_curves_recipe_and_checkpoint(toy, tmp_path):
    make(toy, tmp_path, Recipe(batch_size=8), fashion_mnist(), small_images()).fit(5)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 5]
    assert set(rows[0]) == {"step", "d_loss", "g_loss", "d_real", "d_fake", "steps_per_second"}
    assert sorted(os.listdir(tmp_path / "samples")) == ["step_00000004.png", "step_00000005.png"]
    for name in ("samples.png", "real.png", "curves.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    assert Recipe.load(tmp_path / "recipe.yaml") == Recipe(batch_size=8)
    assert checkpoint.latest(tmp_path / "checkpoints").name == "step_00000005"


def test_what_a_killed_run_logged_after_its_checkpoint_comes_once(toy, tmp_path):
    make(toy, tmp_path).fit(4)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "d_loss": 1.0}\n{"step": 8, "d_l')
    make(toy, tmp_path, resume=True).fit(8)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [2, 4, 6, 8]


def test_class_conditional_training_uses_the_labels(toy, tmp_path):
    data = TensorData(POINTS, torch.arange(50) % 3)
    trainer = make(toy, tmp_path, data=data, networks=toy.pair(classes=3))
    before = [network.embedding.weight.detach().clone() for network in toy.pair(classes=3)]
    trainer.fit(2)
    for network, old in zip((trainer.state.generator, trainer.state.discriminator), before, strict=True):
        assert not torch.equal(network.embedding.weight, old)


def test_labels_in_the_data_do_not_reach_a_pair_without_classes(toy, tmp_path):
    make(toy, tmp_path, data=TensorData(POINTS, torch.arange(50) % 3)).fit(1)


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(toy, tmp_path):
    class Exploding(toy.Discriminator):
        calls = 0

        def forward(self, x, labels=None):
            self.calls += 1
            return super().forward(x) * (float("nan") if self.calls == 6 else 1)  # the generator's third update

    generator, _ = toy.pair()
    trainer = make(
        toy, tmp_path, Recipe(batch_size=8), networks=(generator, Exploding()), log_every=10, checkpoint_every=3
    )
    with pytest.raises(Diverged, match="step 3: g_loss is not finite"):
        trainer.fit(10)
    assert checkpoint.latest(tmp_path / "checkpoints") is None


def test_weights_that_are_not_finite_reach_no_checkpoint(toy, tmp_path):
    trainer = make(toy, tmp_path, checkpoint_every=1)
    trainer.state.discriminator_optimizer.register_step_post_hook(
        lambda *_: trainer.state.step == 1 and trainer.state.discriminator.layers[0].weight.data.fill_(float("inf"))
    )
    with pytest.raises(Diverged, match="step 2: "):
        trainer.fit(5)
    assert checkpoint.latest(tmp_path / "checkpoints").name == "step_00000001"


def test_training_moves_the_generator_to_the_data(toy, tmp_path):

    class Shift(nn.Module):
        z_dim, classes, shape = 2, None, (2,)

        def __init__(self):
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(2))

        def forward(self, z):
            return z + self.shift

    torch.manual_seed(0)
    target = torch.tensor([1.5, -1.0])
    critic = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    recipe = Recipe(
        loss="hinge", batch_size=64, generator_lr=0.02, discriminator_lr=0.02, betas=(0.5, 0.9), ema_decay=0.95
    )
    trainer = make(
        toy, tmp_path, recipe, torch.randn(2000, 2) + target, (Shift(), critic), sample_every=1000, log_every=1000
    )
    trainer.fit(400)
    assert (trainer.state.average.shift - target).abs().max() < 0.3


def test_a_run_is_not_overwritten_and_nothing_is_not_resumed(toy, tmp_path):
    with pytest.raises(FileNotFoundError, match="has no checkpoint to resume from"):
        make(toy, tmp_path, resume=True)
    make(toy, tmp_path).fit(1)
    with pytest.raises(FileExistsError, match="holds a run already"):
        make(toy, tmp_path)


def test_networks_and_data_that_do_not_fit_are_refused(toy, tmp_path):
    generator, discriminator = toy.pair(classes=3)
    with pytest.raises(ValueError, match="generator has 3 classes, data has no labels"):
        make(toy, tmp_path, networks=(generator, discriminator))
    with pytest.raises(ValueError, match="generator has 3 classes, data has 2"):
        make(toy, tmp_path, networks=(generator, discriminator), data=TensorData(POINTS, torch.arange(50) % 2))
    with pytest.raises(ValueError, match=r"generator makes samples of shape \(2,\), data has \(3,\)"):
        make(toy, tmp_path, data=torch.randn(10, 3))
    with pytest.raises(TypeError, match="generator must have an attribute z_dim"):
        make(toy, tmp_path, networks=(nn.Linear(2, 2), discriminator))
    with pytest.raises(TypeError, match="data must be a tensor"):
        make(toy, tmp_path, data=[1, 2, 3])
    assert not os.listdir(tmp_path)
