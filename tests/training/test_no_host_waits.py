"""A step of no recipe reads a number back: on a GPU the host would wait for the device."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from fastgan import Trainer, data
from fastgan.training import ProgressiveSchedule, networks
from fastgan.training.recipe.presets import RECIPES

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "bincount", "item"}


class Waits(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls, self.names = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        self.names |= {function._schema.name.split("::")[1]} & WAITS
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_does_not_wait_for_the_device(name, tmp_path):
    named = RECIPES[name]
    changes = {"batch_size": 2, "discriminator_steps": 1, "discriminator_burst": (0, 0, 0)}
    if named.settings.progressive:
        changes["progressive"] = ProgressiveSchedule(phase_images=2)
    recipe, samples = replace(named.settings, **changes), data.load(named.data)
    model = networks.describe(samples, named, recipe)
    model["width"] = {"mlp": 16, "progressive": 4}.get(model["name"], 2)
    pair = networks.build(model, recipe)
    trainer = Trainer(*pair, recipe, samples, run_dir=tmp_path, device="cpu", progress=False)
    trainer.callbacks = []
    step, next_batch, waits = trainer._step, trainer._next_batch, Waits()

    def batch_of_the_loader(*args):
        with _disable_current_modes():  # the data's own work on the CPU
            return next_batch(*args)

    def watched_step(*args):
        if trainer.state.step == 0:  # optimisers make their state
            return step(*args)
        with waits:
            return step(*args)

    trainer._next_batch, trainer._step = batch_of_the_loader, watched_step
    trainer.fit(2)
    assert waits.calls > 20
    assert not waits.names


def test_the_check_sees_a_wait():
    with Waits() as waits:
        assert torch.ones(()).item() == 1
        torch.ones(2).nonzero()
        bool(torch.zeros(()))
    assert waits.names == {"_local_scalar_dense", "nonzero"}
