"""The generator of a run that is kept in a folder."""

from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from fastgan.training import networks
from fastgan.training.recipe.recipe import Recipe
from fastgan.training.run import checkpoint, setup_file
from fastgan.training.run.folder import RunFolder
from fastgan.training.step.plan import StepSchedule


class Loaded(NamedTuple):
    generator: nn.Module
    step: int
    model: dict[str, Any]  # the arguments of models.create
    flags: dict[str, Any]  # of `fastgan train`; {} for a run made from Python
    folder: RunFolder
    recipe: Recipe
    stage: tuple[int, float] | None  # level and alpha of a growing generator


def load_generator(run_dir: str | Path, best: bool = False, model: str | None = None) -> Loaded:
    """The averaged generator of a run, in evaluation mode, with what the run's folder says of it.

    run_dir: the folder of a run, for its newest checkpoint; its best/, or one of its checkpoints, for that one.
    best: the checkpoint in best/, which a run with stop_when or evaluate_every keeps.
    model: of a run with networks of your own, their "module:function": the folder alone does not make code run.
    Errors: FileNotFoundError, ValueError with the path of what is missing, damaged or not of this model.
    """
    path = Path(run_dir)
    if (path / "state.json").exists():
        found, folder = path, RunFolder(path.resolve().parent.parent)
    elif path.name == "best" and not (path / "recipe.yaml").exists():
        found, folder = checkpoint.latest(path), RunFolder(path.parent)
    else:
        folder = RunFolder(path)
        found = checkpoint.latest(folder.best if best else folder.checkpoints)
    flags, described = setup_file.load(folder.setup, model)
    if found is None:
        where = f"{folder.best}: has no checkpoint; only a run with --stop-when or --evaluate-every keeps its best"
        raise FileNotFoundError(where if best else f"{path}: has no checkpoint yet")
    step = checkpoint.read_description(found)["step"]
    recipe = Recipe.load(folder.recipe)
    generator: Any = networks.build(described, recipe).generator.eval()
    checkpoint.load_network(generator, found, "average")
    if stage := StepSchedule(recipe, generator).at(step).stage:
        generator.set_stage(stage.level, stage.alpha)
    return Loaded(
        generator, step, described, flags, folder, recipe, (stage.level, stage.alpha) if stage is not None else None
    )
