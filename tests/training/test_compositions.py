"""Tricks put together at random: every composition trains, or says in a sentence why it makes no sense."""

import copy
import json
import random

import pytest
import torch
from torch import nn

from fastgan import Recipe, Trainer, data, losses
from fastgan.nn import BatchNorm2d, BiasAct, GroupNorm, InstanceNorm2d, LayerNorm, SelfAttention2d

STEPS, SIZE, WIDTH = 3, 8, 8
PER_SAMPLE = {"R1(gamma=1.0)", "R1(gamma=1.0, every=2)", "R2(gamma=1.0)", "WGANGP(weight=10.0)", "DRAGAN(weight=10.0)"}
OTHERS = {
    "LeCam(weight=0.1)",
    "Consistency(real_weight=1.0, fake_weight=1.0)",
    "OrthogonalRegularization(weight=0.0001)",
    "WeightClip(0.05)",
}
NORMS = {
    "none": lambda: nn.Identity(),
    "batch": lambda: BatchNorm2d(WIDTH),
    "group": lambda: GroupNorm(2, WIDTH),
    "layer": lambda: LayerNorm([WIDTH, SIZE // 2, SIZE // 2]),
    "instance": lambda: InstanceNorm2d(WIDTH, affine=True),
}


class Generator(nn.Module):
    def __init__(self, attention):
        super().__init__()
        self.z_dim, self.shape = 4, (1, SIZE, SIZE)
        self.project = nn.Linear(4, WIDTH * 16)
        self.layers = nn.Sequential(
            BatchNorm2d(WIDTH),
            BiasAct(WIDTH, act="relu"),
            SelfAttention2d(WIDTH) if attention else nn.Identity(),
            nn.ConvTranspose2d(WIDTH, 1, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.layers(self.project(z).unflatten(1, (WIDTH, 4, 4)))


def discriminator(norm, attention, pack):
    layers = [
        nn.Conv2d(pack, WIDTH, 4, 2, 1),
        NORMS[norm](),
        BiasAct(WIDTH, act="silu"),
        SelfAttention2d(WIDTH) if attention else nn.Identity(),
        nn.Flatten(),
        nn.Linear(WIDTH * (SIZE // 2) ** 2, 1),
        nn.Flatten(0),
    ]
    return nn.Sequential(*layers)


def draw(seed):
    """(networks, recipe fields), both by name."""
    choose = random.Random(seed)
    penalties = choose.sample(sorted(PER_SAMPLE | OTHERS), choose.choice([0, 1, 1, 2]))
    networks = {"norm": choose.choice(sorted(NORMS)), "attention": choose.random() < 0.5}
    fields = {
        "loss": choose.choice(losses.names()),
        "penalties": tuple(penalties),
        "spectral_norm": choose.choice(["none", "discriminator", "both"]),
        "pack": choose.choice([1, 1, 2]),
        "unroll_steps": choose.choice([0, 0, 2]),
        "update": choose.choice(["alternating", "alternating", "simultaneous"]),
        "optimizer": choose.choice(["adam", "adam", "adam", "sgd", "rmsprop"]),
        "accumulate": choose.choice([1, 1, 1, 2]),
        "discriminator_steps": choose.choice([1, 2]),
        "augment": choose.choice(["", "", "color,translation"]),
        "ema_decay": choose.choice([0.0, 0.9]),
    }
    return networks, fields


def reasons(networks, fields):
    """Why it makes no sense, as patterns of what is said; none for what must train."""
    gradients = bool(PER_SAMPLE & set(fields["penalties"]))
    unrolled, parts = fields["unroll_steps"] > 0, fields["accumulate"] > 1
    conflicts = {
        "update must be alternating with generator_steps > 1 or accumulate > 1": parts
        and fields["update"] == "simultaneous",
        "unroll_steps must be 0 with accumulate > 1": parts and unrolled,
        "which averages over the whole batch": parts and fields["loss"].startswith("relativistic_average"),
        "only adam and sgd can be differentiated through": unrolled and fields["optimizer"] == "rmsprop",
        "couples the samples of a batch": gradients and networks["norm"] == "batch",
        "has no further derivative": gradients and unrolled,
    }
    return [said for said, conflict in conflicts.items() if conflict]


def train(networks, fields, folder):
    torch.manual_seed(0)
    pair = Generator(networks["attention"]), discriminator(pack=fields["pack"], **networks)
    images = data.TensorData(torch.rand(64, 1, SIZE, SIZE) * 2 - 1)
    recipe = Recipe(batch_size=8, generator_lr=1e-3, discriminator_lr=1e-3, **fields)
    every = {"log_every": 1, "sample_every": STEPS + 1, "checkpoint_every": STEPS + 1}
    trainer = Trainer(*pair, recipe, images, run_dir=folder, device="cpu", progress=False, **every)
    start = [copy.deepcopy(list(network.parameters())) for network in pair]
    trainer.fit(STEPS)
    for network, old in zip(pair, start, strict=True):
        assert not all(torch.equal(a, b) for a, b in zip(old, network.parameters(), strict=True))
    return trainer


@pytest.mark.parametrize("seed", range(60))
def test_a_composition_trains_or_says_why_not(seed, tmp_path):
    networks, fields = draw(seed)
    if conflicts := reasons(networks, fields):
        with pytest.raises((ValueError, NotImplementedError), match="|".join(conflicts)):
            train(networks, fields, tmp_path / "run")
        return
    trainer = train(networks, fields, tmp_path / "run")
    for network in (trainer.state.generator, trainer.state.discriminator):
        assert all(p.isfinite().all() for p in network.parameters())
    *_, last = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    assert last["step"] == STEPS and all(abs(last[name]) < 1e6 for name in ("d_loss", "g_loss"))


def test_the_draws_reach_every_choice_and_every_reason():
    drawn = [draw(seed) for seed in range(60)]
    assert {networks["norm"] for networks, _ in drawn} == set(NORMS)
    assert {fields["loss"] for _, fields in drawn} == set(losses.names())
    assert {penalty for _, fields in drawn for penalty in fields["penalties"]} == PER_SAMPLE | OTHERS
    conflicts = [reasons(*composition) for composition in drawn]
    assert len({said for found in conflicts for said in found}) == 6 and conflicts.count([]) >= 30
