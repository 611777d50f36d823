"""A training state on disk: safetensors and JSON, nothing that is executed when it is read.

step_00001000/
  generator.safetensors  discriminator.safetensors  average.safetensors    the networks' state_dicts
  optimizers.safetensors                                                   "<network>.<parameter number>.<name>"
  memory.safetensors                                                       "<penalty>.<name>"
  state.json                                                               step, recipe, versions
"""

import json
import os
import shutil
from pathlib import Path

import torch

import fastgan
from fastgan.atomic_file import sync
from fastgan.extras import require

FORMAT = 2


def save(state, folder, recipe, keep=2):
    """Write folder/step_N, whole or not at all, and remove all but the newest `keep`. Returns its path."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".unfinished_*"):
        shutil.rmtree(leftover)
    unfinished = folder / f".unfinished_{os.getpid()}"
    unfinished.mkdir()
    for name, network in state.networks().items():
        _write_tensors(network.state_dict(), unfinished / f"{name}.safetensors")
    tensors = {
        f"{name}.{index}.{key}": value
        for name, optimizer in state.optimizers().items()
        for index, entries in optimizer.state_dict()["state"].items()
        for key, value in entries.items()
    }
    _write_tensors(tensors, unfinished / "optimizers.safetensors")
    memory = {f"{name}.{key}": value for name, values in state.memory.items() for key, value in values.items()}
    _write_tensors(memory, unfinished / "memory.safetensors")
    versions = {"fastgan": fastgan.__version__, "torch": torch.__version__}
    described = {"format": FORMAT, "step": state.step, "recipe": recipe.as_dict(), "versions": versions}
    (unfinished / "state.json").write_text(json.dumps(described, indent=2))
    sync(unfinished / "state.json")
    path = folder / f"step_{state.step:08d}"
    if path.exists():
        shutil.rmtree(path)
    os.replace(unfinished, path)
    for old in _all(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def latest(folder):
    """The newest checkpoint in the folder, or None."""
    return (_all(Path(folder)) or [None])[-1]


def load(state, path):
    """Fill the state from a checkpoint. Learning rates and the like are the recipe's, not the checkpoint's."""
    path = Path(path)
    described = json.loads((path / "state.json").read_text())
    if described["format"] != FORMAT:
        raise ValueError(f"{path}: has format {described['format']}; this fastgan reads format {FORMAT}")
    for name, network in state.networks().items():
        load_network(network, path / f"{name}.safetensors")
    tensors = _read_tensors(path / "optimizers.safetensors")
    for name, optimizer in state.optimizers().items():
        _load_optimizer(optimizer, {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith(f"{name}.")})
    memory = _read_tensors(path / "memory.safetensors")
    for name, values in state.memory.items():  # a term that is new in the recipe begins as in a new run
        for key, value in values.items():
            value.copy_(memory.get(f"{name}.{key}", value))
    state.step = described["step"]


def load_network(network, path):
    """Strictly; errors: ValueError that says in one line what does not fit."""
    try:
        network.load_state_dict(_read_tensors(path))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: is not of this {type(network).__name__}: {reason:.300}") from None


def _load_optimizer(optimizer, tensors):
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters[int(index)]
        if tensor.shape == parameter.shape and tensor.ndim:
            # In the parameter's memory format, which a file does not keep: fused optimisers count on it.
            tensor = torch.empty_like(parameter, dtype=tensor.dtype).copy_(tensor)
        state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _write_tensors(tensors, path):
    # clone: two names of one tensor are two entries here, as they are in a state_dict
    tensors = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    require("safetensors.torch").save_file(tensors, path)
    sync(path)


def _read_tensors(path):
    if not path.exists():
        raise FileNotFoundError(f"{path}: is missing; the checkpoint is not whole")
    return require("safetensors.torch").load_file(path)


def _all(folder):
    return sorted(p for p in folder.glob("step_*") if (p / "state.json").exists())
