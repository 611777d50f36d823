"""Plain values as YAML: recipe.yaml and setup.yaml in the folder of a run."""

from pathlib import Path

from fastgan.atomic_file import replacing
from fastgan.extras import require


def read_mapping(path):
    """The mapping that a file holds, as a dict. Errors: ValueError with the path, and the line if YAML names one."""
    yaml, path = require("yaml"), Path(path)
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark is not None else f"{path}"
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ValueError(f"{where}: cannot be read as YAML: {reason:.200}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{path}: must hold a mapping of names to values; got {type(values).__name__}")
    return values


def write_mapping(path, values):
    text = require("yaml").safe_dump(values, sort_keys=False, width=1000)
    with replacing(path) as unfinished:
        unfinished.write_text(text)
