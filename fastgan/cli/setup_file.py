"""What `fastgan train` was asked for and the recipe does not hold, in the run's folder."""

import dataclasses

from fastgan.atomic_file import replacing
from fastgan.extras import require
from fastgan.training import Recipe, networks
from fastgan.training.run import checkpoint
from fastgan.training.run.folder import RunFolder
from fastgan.training.step.plan import StepSchedule

NOT_KEPT = {"run_dir", "resume", "settings"}


def save(path, flags, model):
    """flags: the command's dataclass; model: the arguments of models.create."""
    kept = {field.name for field in dataclasses.fields(flags)} - NOT_KEPT
    text = require("yaml").safe_dump({"flags": {name: getattr(flags, name) for name in sorted(kept)}, "model": model})
    with replacing(path) as unfinished:
        unfinished.write_text(text)


def load(path):
    """-> flags, model, as dicts"""
    if not path.exists():
        raise FileNotFoundError(f"{path}: is missing; {path.parent} holds no run by `fastgan train`")
    values = require("yaml").safe_load(path.read_text())
    if not isinstance(values, dict) or set(values) != {"flags", "model"}:
        raise ValueError(f"{path}: is damaged: `flags` and `model` are expected in it")
    return values["flags"], values["model"]


def load_generator(run_dir):
    """-> the averaged generator of the run's newest checkpoint, flags, model, step"""
    folder = RunFolder(run_dir)
    flags, model = load(folder.setup)
    found = checkpoint.latest(folder.checkpoints)
    if found is None:
        raise FileNotFoundError(f"{folder.path}: has no checkpoint yet")
    recipe, step = Recipe.load(folder.recipe), int(found.name.removeprefix("step_"))
    generator = networks.build(model, recipe).generator
    checkpoint.load_network(generator, found, "average")
    if stage := StepSchedule(recipe, generator).at(step).stage:
        generator.set_stage(stage.level, stage.alpha)
    return generator, flags, model, step
