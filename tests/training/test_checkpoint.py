import errno
import json
import os
import pickle

import pytest
import torch

from fastgan import Recipe, losses
from fastgan.training.run import checkpoint
from fastgan.training.run.damaged import Damaged
from fastgan.training.step.objective import Objective
from fastgan.training.step.state import TrainState
from fastgan.training.step.updates import alternating


def trained(toy, steps, seed=0):
    state = TrainState.create(*toy.pair(seed), Recipe())
    objective = Objective(losses.get("hinge"))
    for _ in range(steps):
        alternating(
            state, objective, next_batch=lambda: (torch.randn(4, 2), None), next_latents=lambda: torch.randn(4, 3)
        )
        state.step += 1
    return state


def flat(state):
    tensors = {f"{n}.{k}": v for n, net in state.networks().items() for k, v in net.state_dict().items()}
    for name, optimizer in state.optimizers().items():
        for index, entries in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}.{index}.{k}": v for k, v in entries.items()}
    return tensors


def test_a_state_comes_back_bit_for_bit(toy, tmp_path):
    before, after = trained(toy, 3), trained(toy, 0, seed=1)
    checkpoint.load(after, checkpoint.save(before, tmp_path, Recipe()))
    assert after.step == 3
    a, b = flat(before), flat(after)
    assert a.keys() == b.keys() and len(a) > 40
    for key in a:
        assert a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]), key


def test_nothing_in_a_checkpoint_is_pickled(toy, tmp_path):
    path = checkpoint.save(trained(toy, 1), tmp_path, Recipe())
    files = sorted(os.listdir(path))
    assert files == [
        "average.safetensors",
        "discriminator.safetensors",
        "generator.safetensors",
        "memory.safetensors",
        "optimizers.safetensors",
        "state.json",
    ]
    described = json.loads((path / "state.json").read_text())
    assert described["step"] == 1 and described["recipe"] == Recipe().as_dict()


@pytest.mark.parametrize("dies_at", ["generator", "optimizers", "rename"])
def test_a_killed_save_leaves_the_checkpoint_before(toy, tmp_path, monkeypatch, dies_at):
    state = trained(toy, 1)
    first = checkpoint.save(state, tmp_path, Recipe())
    state.step = 2
    if dies_at == "rename":
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    else:
        write = checkpoint._write_tensors

        def die(tensors, path):
            if path.stem == dies_at:
                path.write_bytes(b"half")
                raise KeyboardInterrupt
            return write(tensors, path)

        monkeypatch.setattr(checkpoint, "_write_tensors", die)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(state, tmp_path, Recipe())
    monkeypatch.undo()
    assert checkpoint.latest(tmp_path) == first
    checkpoint.load(trained(toy, 0), first)
    assert checkpoint.save(state, tmp_path, Recipe()).name == "step_00000002"
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_the_newest_are_kept(toy, tmp_path):
    state = trained(toy, 1)
    for step in (1, 20, 3, 20):
        state.step = step
        checkpoint.save(state, tmp_path, Recipe(), keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step_00000003", "step_00000020"]
    assert checkpoint.latest(tmp_path).name == "step_00000020"
    assert checkpoint.latest(tmp_path / "nowhere") is None


def test_optimizer_state_has_the_memory_format_of_its_parameter(tmp_path):
    def make():
        torch.manual_seed(0)
        networks = [torch.nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last) for _ in range(2)]
        return TrainState.create(*networks, Recipe())

    before, after = make(), make()
    before.generator(torch.randn(1, 4, 5, 5)).sum().backward()
    before.generator_optimizer.step()
    checkpoint.load(after, checkpoint.save(before, tmp_path, Recipe()))
    weight = after.generator.weight
    moment = after.generator_optimizer.state[weight]["exp_avg"]
    assert moment.stride() == weight.stride() != moment.contiguous().stride()


def test_what_does_not_fit_is_said_in_one_line(toy, tmp_path):
    path = checkpoint.save(trained(toy, 1), tmp_path, Recipe())
    generator, _ = toy.pair(classes=3)
    with pytest.raises(ValueError, match=r"generator.safetensors: is not of this Generator: .*embedding") as caught:
        checkpoint.load_network(generator, path, "generator")
    assert "\n" not in str(caught.value)
    (path / "average.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"average.safetensors: is missing"):
        checkpoint.load(trained(toy, 0), path)
    described = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(described | {"format": 99}))
    with pytest.raises(ValueError, match="has format 99; this fastgan goes on from format 3"):
        checkpoint.load(trained(toy, 0), path)


def two_checkpoints(toy, folder):
    state = trained(toy, 1)
    checkpoint.save(state, folder, Recipe())
    state.step = 2
    return checkpoint.save(state, folder, Recipe())


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [flipped, lambda c: b"", lambda c: c[: len(c) // 2], lambda c: pickle.dumps([c])])
@pytest.mark.parametrize("file", ["generator", "average", "optimizers", "memory"])
def test_a_damaged_file_is_named_and_so_is_the_older_good_checkpoint(toy, tmp_path, file, damage):
    path = two_checkpoints(toy, tmp_path)
    damaged = path / f"{file}.safetensors"
    damaged.write_bytes(damage(damaged.read_bytes()))
    words = f"{file}.safetensors: is damaged: .*; remove step_00000002 to go on from step_00000001, which is whole"
    with pytest.raises(Damaged, match=words):
        checkpoint.load(trained(toy, 0), path)


@pytest.mark.parametrize(
    "change",
    [{"step": -5}, {"step": 4.5}, {"step": 7}, {"step": None}, {"format": None}, {"sha256": []}, {"optimizers": None}],
)
def test_a_description_that_cannot_be_is_refused(toy, tmp_path, change):
    path = two_checkpoints(toy, tmp_path)
    described = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(described | change))
    with pytest.raises(Damaged, match=r"state.json: is damaged: .*; remove step_00000002"):
        checkpoint.load(trained(toy, 0), path)
    for text in ("null", "{", "", "[" * 100_000):
        (path / "state.json").write_text(text)
        with pytest.raises(Damaged, match=r"state.json: is damaged"):
            checkpoint.load(trained(toy, 0), path)


def resumed(toy, path, recipe, change=lambda generator: None):
    generator, discriminator = toy.pair()
    change(generator)
    state = TrainState.create(generator, discriminator, recipe)
    return state, checkpoint.load(state, path)


def test_moments_stay_with_their_parameter_when_layers_are_frozen_or_unfrozen(toy, tmp_path):
    def freeze(generator):
        generator.layers[0].requires_grad_(False)

    before = trained(toy, 2)
    whole = checkpoint.save(before, tmp_path / "whole", Recipe())
    after, notes = resumed(toy, whole, Recipe(), freeze)
    kept = {n: before.generator_optimizer.state[p] for n, p in before.generator.named_parameters()}
    for name, p in after.generator.named_parameters():
        moments = after.generator_optimizer.state.get(p, {})
        assert (not moments) == name.startswith("layers.0")
        assert all(torch.equal(value, kept[name][key]) for key, value in moments.items())
    assert notes == []

    part = checkpoint.save(after, tmp_path / "part", Recipe())
    again, notes = resumed(toy, part, Recipe())
    assert notes == [
        "the checkpoint did not train generator.layers.0.weight and of 1 more: the optimiser's state starts fresh there"
    ]
    for name, p in again.generator.named_parameters():
        moments = again.generator_optimizer.state.get(p, {})
        assert (not moments) == name.startswith("layers.0")
        assert all(torch.equal(value, kept[name][key]) for key, value in moments.items())


def test_another_optimiser_starts_fresh_and_says_so(toy, tmp_path):
    path = checkpoint.save(trained(toy, 2), tmp_path, Recipe())
    for optimizer, kind in (("rmsprop", "RMSprop"), ("sgd", "SGD")):
        state, notes = resumed(toy, path, Recipe(optimizer=optimizer))
        assert notes == [
            f"the {name}'s optimiser was Adam and is {kind} now: its state starts fresh"
            for name in ("generator", "discriminator")
        ]
        assert not state.generator_optimizer.state
        alternating(
            state,
            Objective(losses.get("hinge")),
            next_batch=lambda: (torch.randn(4, 2), None),
            next_latents=lambda: torch.randn(4, 3),
        )


def test_moments_of_another_shape_or_dtype_are_refused(toy, tmp_path):
    state = trained(toy, 1)
    weight = state.generator.layers[0].weight
    moments = state.generator_optimizer.state[weight]
    for wrong in (torch.zeros(1), torch.zeros(()), torch.zeros(9, 3), torch.zeros(8, 3, dtype=torch.float64)):
        moments["exp_avg"] = wrong
        path = checkpoint.save(state, tmp_path, Recipe())
        with pytest.raises(Damaged, match=r"exp_avg of generator.layers.0.weight must have shape \(8, 3\)"):
            checkpoint.load(trained(toy, 0), path)


def test_memory_of_another_shape_starts_fresh_and_says_so(toy, tmp_path):
    recipe = Recipe(penalties=("LeCam(weight=1.0)",))
    state = TrainState.create(*toy.pair(), recipe)
    own = {key: value.clone() for key, value in state.memory["LeCam"].items()}
    for value in state.memory["LeCam"].values():
        value.fill_(3)
    same, notes = resumed(toy, checkpoint.save(state, tmp_path / "same", recipe), recipe)
    assert notes == [] and all((value == 3).all() for value in same.memory["LeCam"].values())
    state.memory["LeCam"] = {key: torch.ones(7) for key in own}
    other, notes = resumed(toy, checkpoint.save(state, tmp_path / "other", recipe), recipe)
    assert notes == ["the checkpoint has no memory of LeCam: the memory starts fresh"]
    assert all(torch.equal(value, own[key]) for key, value in other.memory["LeCam"].items())


def test_extra_state_of_a_module_comes_back(toy, tmp_path):
    class Noted(torch.nn.Linear):
        note = None

        def get_extra_state(self):
            return self.note

        def set_extra_state(self, state):
            self.note = state

    class Generator(toy.Generator):
        def __init__(self, note):
            super().__init__()
            self.layers[0] = Noted(3, 8)
            self.layers[0].note = note

    def state(note):
        return TrainState.create(Generator(note), toy.Discriminator(), Recipe())

    note = {"trained on": "cats", "sizes": [1, 2.5, None]}
    after = state(None)
    checkpoint.load(after, checkpoint.save(state(note), tmp_path, Recipe()))
    assert after.generator.layers[0].note == after.average.layers[0].note == note
    for wrong in ({"sizes": (1, 2)}, {1: "x"}, {"f": print}):
        with pytest.raises(TypeError, match=r"get_extra_state of layers.0 must return a tensor, or what JSON"):
            checkpoint.save(state(wrong), tmp_path, Recipe())


def test_a_full_disk_keeps_the_checkpoint_before_and_is_named(toy, tmp_path, monkeypatch):
    first = checkpoint.save(trained(toy, 1), tmp_path, Recipe())
    state = trained(toy, 2)

    def full(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*step_00000002"):
        checkpoint.save(state, tmp_path, Recipe())
    monkeypatch.undo()
    assert checkpoint.latest(tmp_path) == first and os.listdir(tmp_path) == [first.name]
