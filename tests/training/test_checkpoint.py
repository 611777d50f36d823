import json
import os

import pytest
import torch

from fastgan import Recipe, losses
from fastgan.training.run import checkpoint
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
            write(tensors, path)

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
        checkpoint.load_network(generator, path / "generator.safetensors")
    assert "\n" not in str(caught.value)
    (path / "average.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"average.safetensors: is missing"):
        checkpoint.load(trained(toy, 0), path)
    described = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(described | {"format": 99}))
    with pytest.raises(ValueError, match="format 99"):
        checkpoint.load(trained(toy, 0), path)
