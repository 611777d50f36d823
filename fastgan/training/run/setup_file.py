"""What the recipe of a run does not hold: its model, and what the command line was called with."""

from pathlib import Path
from typing import Any

from fastgan import models, own_code
from fastgan.training.recipe.yaml_file import read_mapping, write_mapping


def save(path: Path, model: dict[str, Any] | None, flags: dict[str, Any] | None = None) -> None:
    """model: the arguments of models.create. flags: of `fastgan train`, {} for a run made from Python."""
    write_mapping(path, {"flags": flags or {}, "model": model})


def load(path: Path, own: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """-> flags, model, as dicts. own: the model's "module:function" as the user named it, which a file alone may not.

    Errors: FileNotFoundError, ValueError with the path.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: is missing; {path.parent} holds no run of a pair from fastgan.models.create: a run of other"
            " networks is resumed and sampled from Python, with Trainer(..., resume=True)"
        )
    values = read_mapping(path)
    if set(values) != {"flags", "model"} or not all(isinstance(value, dict) for value in values.values()):
        raise ValueError(f"{path}: is damaged: the mappings `flags` and `model` are expected in it")
    for name in (values["flags"].get("model"), values["model"].get("name")):
        if name is not None and name not in models.names():
            own_code.refuse_unless_named(name, own, path, "--model ")
    return values["flags"], values["model"]
