"""A training state on disk: safetensors and JSON, nothing that is executed when it is read.

step_00001000/
  generator.safetensors  discriminator.safetensors  average.safetensors    the networks' state_dicts
  optimizers.safetensors                                                   "<network>.<parameter>.<entry>"
  memory.safetensors                                                       "<term>.<entry>", "log.<entry>"
  state.json    step, recipe, versions, extra state of modules, what the optimisers train, SHA-256 of the other files

What an optimiser keeps belongs to a parameter's name. So layers can be frozen or unfrozen, and the optimiser changed,
between two parts of a run: what has no saved state starts fresh, and `load` says so.
"""

import hashlib
import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import torch

import fastgan
from fastgan.atomic_file import replacing_folder, sync
from fastgan.extras import require
from fastgan.training.run.damaged import Damaged
from fastgan.training.step.optimizers import trained_by

FORMAT = 3
LOG = "log"  # the name of what the log goes on from


class Snapshot(NamedTuple):
    """A copy of a state in the computer's memory, which the next steps do not change."""

    step: int
    files: dict[str, dict[str, torch.Tensor]]
    described: dict[str, Any]


def save(state, folder, recipe, keep=2):
    """Write folder/step_N, whole or not at all, and remove all but the newest `keep`. Returns its path."""
    return write(snapshot(state, recipe), folder, keep)


def snapshot(state, recipe) -> Snapshot:
    """What `write` writes."""
    files = {name: _tensors(network) for name, network in state.networks().items()}
    files["optimizers"] = {
        f"{name}.{parameter}.{entry}": value
        for name, optimizer in state.optimizers().items()
        for parameter, tensor in _trained(state.networks()[name], optimizer).items()
        for entry, value in optimizer.state.get(tensor, {}).items()
    }
    files["memory"] = {f"{name}.{key}": value for name, values in state.memory.items() for key, value in values.items()}
    files["memory"] |= {f"{LOG}.{key}": v for key, v in state.log.items() if isinstance(v, torch.Tensor)}
    described = {
        "format": FORMAT,
        "step": state.step,
        "recipe": recipe.as_dict(),
        "versions": {"fastgan": fastgan.__version__, "torch": torch.__version__},
        "extra_state": {name: extra_state(network) for name, network in state.networks().items()},
        "optimizers": {
            name: {"kind": type(optimizer).__name__, "trains": list(_trained(state.networks()[name], optimizer))}
            for name, optimizer in state.optimizers().items()
        },
        "scalers": {name: scaler.state_dict() for name, scaler in state.scalers.items()},
        "rollbacks": state.rollbacks,
        LOG: {key: value for key, value in state.log.items() if not isinstance(value, torch.Tensor)},
    }
    # clone: two names of one tensor are two entries here, as they are in a state_dict
    copies = {
        file: {k: t.detach().cpu().clone(memory_format=torch.contiguous_format) for k, t in tensors.items()}
        for file, tensors in files.items()
    }
    return Snapshot(state.step, copies, deepcopy(described))


def write(taken: Snapshot, folder: Path | str, keep: int = 2) -> Path:
    """As `save`, of a snapshot."""
    folder, described = Path(folder), dict(taken.described)
    path = folder / f"step_{taken.step:08d}"
    with replacing_folder(path) as unfinished:
        described["sha256"] = {
            name: _write_tensors(tensors, unfinished / f"{name}.safetensors") for name, tensors in taken.files.items()
        }
        (unfinished / "state.json").write_text(json.dumps(described, indent=2))
        sync(unfinished / "state.json")
    for old in _all(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def latest(folder):
    """The newest checkpoint in the folder, or None."""
    return (_all(Path(folder)) or [None])[-1]


def newest_whole(folder: Path | str) -> tuple[Path | None, list[Path]]:
    """-> (the newest checkpoint with the right checksums, the newer ones without). If none is whole: the newest."""
    newest_first = _all(Path(folder))[::-1]
    for index, path in enumerate(newest_first):
        if _is_whole(path):
            return path, newest_first[:index]
    return (newest_first or [None])[0], []


def set_aside(folder: Path | str, step: int) -> None:
    """Rename the checkpoints after this step, which a run does not go on from: they are counted no longer."""
    for path in _all(Path(folder)):
        if path.name > f"step_{step:08d}":
            aside = path.with_name(f"damaged_{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


def load(state, path):
    """Fill the state from a checkpoint. Learning rates and the like are the recipe's, not the checkpoint's.

    Returns sentences about what starts fresh, since the checkpoint has no state for it.
    Errors: Damaged (a ValueError), FileNotFoundError for files; ValueError for networks that the checkpoint is not of.
    """
    path = Path(path)
    described = read_description(path)
    if described["format"] != FORMAT:
        raise ValueError(
            f"{path / 'state.json'}: has format {described['format']}; this fastgan goes on from format {FORMAT}:"
            " begin a new run (`fastgan sample` and `fastgan evaluate` can still read this one)"
        )
    tensors, memory = (_read(path, name, described) for name in ("optimizers", "memory"))
    for name, network in state.networks().items():
        load_network(network, path, name)
    notes = []
    for name, optimizer in state.optimizers().items():
        saved = {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}
        about = described["optimizers"][name]
        notes += _load_optimizer(optimizer, state.networks()[name], name, saved, about, path)
    for name, values in state.memory.items():
        saved = {key: memory.get(f"{name}.{key}") for key in values}
        if all(
            t is not None and (t.shape, t.dtype) == (values[key].shape, values[key].dtype) for key, t in saved.items()
        ):
            for key, value in values.items():
                value.copy_(saved[key])
        else:
            notes.append(f"the checkpoint has no memory of {name}: the memory starts fresh")
    for name, scaler in state.scalers.items():
        saved = described.get("scalers", {}).get(name)
        if saved is None:
            notes.append(f"the checkpoint has no scale of the {name}'s gradients: the scale starts fresh")
        else:
            scaler.load_state_dict(saved)
    state.step, state.rollbacks = described["step"], described.get("rollbacks", 0)
    tensors = {key.partition(".")[2]: value for key, value in memory.items() if key.startswith(f"{LOG}.")}
    state.log = described.get(LOG, {}) | tensors
    return notes


def load_network(network, path, name):
    """Fill a network from the file `name` of a checkpoint, strictly.

    Errors: ValueError that says in one line what does not fit; Damaged, FileNotFoundError for the files.
    """
    path = Path(path)
    described = read_description(path)
    values = _read(path, name, described) | described.get("extra_state", {}).get(name, {})
    try:
        network.load_state_dict(values)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        file = path / f"{name}.safetensors"
        raise ValueError(f"{file}: is not of this {type(network).__name__}: {reason:.300}") from None


def read_description(path: Path) -> dict[str, Any]:
    """What state.json holds, checked. Errors: Damaged, FileNotFoundError."""
    file = Path(path) / "state.json"
    if not file.exists():
        raise FileNotFoundError(f"{file}: is missing; {_instead(path)}")
    try:
        described = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{file}: is damaged ({error!s:.100}); {_instead(path)}") from None
    needed: dict[str, type] = {"format": int, "step": int}
    if isinstance(described, dict) and described.get("format") == FORMAT:
        needed |= {"sha256": dict, "extra_state": dict, "optimizers": dict}
    for key, kind in needed.items():
        value: Any = described.get(key) if isinstance(described, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
            allowed = "an integer of at least 0" if kind is int else "a mapping"
            raise Damaged(f"{file}: is damaged: {key} must be {allowed}, got {value!r:.100}; {_instead(path)}")
    if Path(path).name != f"step_{described['step']:08d}":
        raise Damaged(f"{file}: is damaged: it has step {described['step']}; {_instead(path)}")
    return described


def extra_state(network):
    """What get_extra_state of the network's modules returns, by its key in the state_dict; tensors are kept apart.

    Errors: TypeError that names the module for what JSON cannot hold.
    """
    found = {key: value for key, value in network.state_dict().items() if not isinstance(value, torch.Tensor)}
    for key, value in found.items():
        try:
            kept = json.loads(json.dumps(value))
        except (TypeError, ValueError, RecursionError):
            kept = None
        if kept != value:
            module = key.rpartition("_extra_state")[0].rstrip(".") or type(network).__name__
            raise TypeError(
                f"get_extra_state of {module} must return a tensor, or what JSON gives back unchanged (dicts with text"
                f" keys, lists, text, numbers, None), so that checkpoints can hold it; got {type(value).__name__}"
            )
    return found


def _load_optimizer(optimizer, network, name, saved, about, path):
    """-> what starts fresh, in sentences"""
    kind = type(optimizer).__name__
    if about["kind"] != kind:
        return [f"the {name}'s optimiser was {about['kind']} and is {kind} now: its state starts fresh"]
    entries = {}
    for key, value in saved.items():
        parameter, _, entry = key.rpartition(".")
        entries.setdefault(parameter, {})[entry] = value
    names = set().union(*entries.values())
    trained = _trained(network, optimizer)
    for parameter, tensor in trained.items():
        kept = entries.get(parameter)
        if kept is None:
            continue
        for entry in names:
            value = kept.get(entry)
            single = entry == "step"
            if (
                value is None
                or value.shape != (() if single else tensor.shape)
                or not (single or value.dtype == tensor.dtype)
            ):
                found = "nothing" if value is None else f"{tuple(value.shape)} of {value.dtype}"
                raise Damaged(
                    f"{path / 'optimizers.safetensors'}: {entry} of {name}.{parameter} must have shape"
                    f" {() if single else tuple(tensor.shape)}, got {found}; {_instead(path)}"
                )
            if not single:
                # In the parameter's memory format, which a file does not keep: fused optimisers count on it.
                kept[entry] = torch.empty_like(tensor).copy_(value)
    order = {parameter: index for index, parameter in enumerate(trained)}
    optimizer.load_state_dict(
        {
            "state": {order[parameter]: kept for parameter, kept in entries.items() if parameter in order},
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )
    fresh = [parameter for parameter in trained if parameter not in about["trains"]]
    if not fresh:
        return []
    others = f" and of {len(fresh) - 1} more" if len(fresh) > 1 else ""
    return [f"the checkpoint did not train {name}.{fresh[0]}{others}: the optimiser's state starts fresh there"]


def _trained(network, optimizer):
    """name -> parameter, in the optimiser's order"""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {names[p]: p for p in trained_by(optimizer)}


def _tensors(network):
    return {key: value for key, value in network.state_dict().items() if isinstance(value, torch.Tensor)}


def _write_tensors(tensors, path):
    """-> the file's SHA-256"""
    content = require("safetensors.torch").save(tensors)
    path.write_bytes(content)
    sync(path)
    return hashlib.sha256(content).hexdigest()


def _read(path, name, described):
    file = path / f"{name}.safetensors"
    if not file.exists():
        raise FileNotFoundError(f"{file}: is missing; {_instead(path)}")
    content = file.read_bytes()
    if "sha256" in described and hashlib.sha256(content).hexdigest() != described["sha256"].get(name):
        raise Damaged(f"{file}: is damaged: its checksum is not the one in state.json; {_instead(path)}")
    try:
        return require("safetensors.torch").load(content)
    except require("safetensors").SafetensorError as error:
        raise Damaged(f"{file}: is damaged ({error!s:.100}); {_instead(path)}") from None


def _instead(path):
    """What to do without this checkpoint."""
    path = Path(path)
    for older in reversed([other for other in _all(path.parent) if other.name < path.name]):
        if _is_whole(older):
            return f"remove {path.name} to go on from {older.name}, which is whole"
    return "the folder has no older checkpoint that is whole"


def _is_whole(path):
    try:
        hashes = json.loads((path / "state.json").read_text())["sha256"]
        return all(
            hashlib.sha256((path / f"{name}.safetensors").read_bytes()).hexdigest() == digest
            for name, digest in hashes.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _all(folder):
    return sorted(p for p in folder.glob("step_*") if (p / "state.json").exists())
