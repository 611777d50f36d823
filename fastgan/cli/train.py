"""`fastgan train`"""

import shlex
import sys
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import count
from pathlib import Path

import torch

from fastgan import data, own_code, processes, training
from fastgan.cli import exit_codes
from fastgan.cli.flags import RecipeFlags, at_least_one, glance, mendable, parse, recipe_flags, recipe_of
from fastgan.data import data_source
from fastgan.metrics.features.named import is_own
from fastgan.training import distributed, networks
from fastgan.training.recipe import presets
from fastgan.training.run import checkpoint, setup_file
from fastgan.training.run.folder import RunFolder

NOT_KEPT = {"run_dir", "resume", "reading", "run", "learning"}
OF_THE_MODEL = ("model", "conditional", "width", "z_dim", "resolution", "channels")


@dataclass(frozen=True)
class Train:
    """Train a pair of networks. Without flags: garments of 28 pixels, in minutes on two processor cores."""

    recipe: str = "default"
    """The recipe whose values the flags below start from; `fastgan recipes` lists them. Or a file .yaml that holds
    fields of a recipe, and in `recipe` the name that it starts from."""

    data: str | None = None
    """A data set by name ("fashion", embedded; "ring", "grid", ...), a folder of images, flat or with a sub-folder for
    each class, FILE.zip, .tar, .npy, .npz or .pt, hf:NAME, or module:function; `fastgan data --help` has a table. By
    default the recipe's, mostly "fashion"."""

    model: str | None = None
    """The architecture of both networks: dcgan, sngan, sagan, ...; or module:function, a Python function of your own
    that returns (generator, discriminator). By default the recipe's, and "mlp" for points."""

    steps: int = 5000
    """Updates of the generator, those before a resume included."""

    run_dir: Path | None = None
    """Where the run is kept; by default a new folder in runs/."""

    resume: bool = False
    """Go on from the newest checkpoint in run_dir; a flag that is not given has the value that it had before."""

    resolution: int | None = None
    """Side of the square images in pixels; by default 28 for the garments, 64 for a folder."""

    channels: int | None = None
    """1 (grey) or 3 (colour); by default 1 for the garments, 3 for a folder."""

    skip_broken: bool = False
    """Leave out images of a folder that cannot be decoded; without it the first such image ends the command."""

    conditional: bool = False
    """Train both networks with the labels of the images; some recipes do so by themselves."""

    width: int | None = None
    """Size of the networks, as each architecture defines it; by default its paper's."""

    z_dim: int | None = None
    """Dimensions of the latent space; by default the architecture's."""

    device: str | None = None
    """cpu, cuda, cuda:1, ...; by default the GPU where there is one. Under torchrun each process takes its own GPU."""

    threads: int | None = None
    """Processor threads; by default torch's choice, one for each core."""

    tensorboard: bool = False
    """Write the numbers and pictures for TensorBoard as well, in run_dir/tensorboard."""

    reading: data_source.Reading = field(default_factory=data_source.Reading)

    run: training.RunOptions = field(default_factory=training.RunOptions)

    learning: RecipeFlags = field(default_factory=RecipeFlags)


def main(arguments: list[str]) -> int:
    with mendable(ValueError, TypeError, OSError, training.ProcessFailed):
        flags = parse("train", _defaults(arguments), arguments)
        trainer, model, source = _prepare(flags)
    is_first = processes.rank() == 0
    if is_first:
        print(_summary(trainer, flags, model, source), flush=True)
    folder = trainer.folder
    run = shlex.quote(str(folder.path))
    try:
        with mendable(training.Diverged, training.Damaged, training.ProcessFailed, data.ImageError, OSError):
            trainer.fit(flags.steps)
    except training.Interrupted as stopped:
        if is_first:
            print(
                f"\nfastgan: stopped by {stopped}; go on with: fastgan train --resume --run-dir {run}", file=sys.stderr
            )
        return exit_codes.SIGNAL + stopped.signal
    distributed.leave()
    if not is_first:
        return 0
    best = trainer.best_step
    if best is not None and trainer.state.step < flags.steps:
        print(f"stopped at step {trainer.state.step}: no better than at step {best} beyond the noise")
    if folder.best.exists():
        print(f"best:    {folder.best}")
    print(f"samples: {folder.samples}\ncurves:  {folder.curves}")
    if flags.run.report and folder.report.exists():
        print(f"report:  {folder.report}")
    for line in folder.findings.read_text().splitlines() if folder.findings.exists() else ():
        print(f"finding: {line}")
    print(f"more:    fastgan sample --run-dir {run} --out more.png")
    return 0


def _defaults(arguments):
    """What the flags that were not given stand for: the named recipe, or the run to resume."""
    given = glance(arguments, "recipe", "run-dir", "data", "model", "extractor", switches=["resume"])
    if distributed.launched() and given["run-dir"] is None:
        raise ValueError("--run-dir must be given under torchrun, so that all processes know the folder")
    if not (given["resume"] or _goes_on(given["run-dir"])):
        return Train(learning=recipe_flags(presets.recipe(given["recipe"] or "default").settings))
    if given["run-dir"] is None:
        raise ValueError("--resume needs --run-dir")
    folder = RunFolder(given["run-dir"])
    before, _ = setup_file.load(folder.setup, given["model"])
    if before.get("data") is not None and given["data"] is None:
        data_source.recorded(before["data"])
    learning = recipe_flags(training.Recipe.load(folder.recipe))
    try:
        run = training.RunOptions(**before.pop("options", {}))
        reading = data_source.Reading.of({"reading": before.pop("reading", None)})
        defaults = replace(Train(), **before, reading=reading, run=run, learning=learning, resume=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder.setup}: is damaged: {error}") from None
    if is_own(run.extractor):
        own_code.refuse_unless_named(run.extractor, given["extractor"], folder.setup, "--extractor ")
    if given["recipe"] not in (None, defaults.recipe):
        raise ValueError(
            f"--resume goes on with the run's own recipe, {defaults.recipe}, and does not take --recipe"
            f" {given['recipe']}: change its settings by their flags, or begin a new run"
        )
    return defaults


def _goes_on(run_dir):
    """Whether torchrun has started the processes again, and the run has a checkpoint to go on from."""
    return distributed.restarted() and run_dir and checkpoint.latest(RunFolder(run_dir).checkpoints) is not None


def _prepare(flags):
    """-> the Trainer, the arguments of models.create, the text of the data"""
    at_least_one(flags, "steps", "threads", "resolution", "channels")
    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    recipe, named = recipe_of(flags.learning), presets.recipe(flags.recipe)
    before, model = _before(flags)
    source = flags.data or named.data
    if flags.data is None and model is not None:
        raise ValueError(f"{flags.run_dir}: does not name its data: give --data")
    size = {name: getattr(flags, name) or (model or {}).get(name) for name in ("resolution", "channels")}
    if model:
        samples = data_source.load(source, **size, skip_broken=flags.skip_broken, reading=flags.reading)
    else:
        samples = data.load(source, **size, skip_broken=flags.skip_broken, **asdict(flags.reading))
    if flags.conditional and samples.classes is None:
        raise ValueError(f"--conditional needs labels: {source} has none")
    if model is None or any(getattr(flags, name) != before.get(name, getattr(Train, name)) for name in OF_THE_MODEL):
        asked = {"model": flags.model, "conditional": flags.conditional, "width": flags.width, "z_dim": flags.z_dim}
        model = networks.describe(samples, named, recipe, **asked)
    trainer = training.Trainer(
        *networks.build(model, recipe),
        recipe,
        samples,
        run_dir=flags.run_dir or _new_run_dir(f"{Path(source).name}-{model['name']}"),
        resume=flags.resume,
        device=flags.device,
        callbacks=[training.TensorBoard()] if flags.tensorboard else [],
        **asdict(flags.run),
    )
    kept = {f.name: getattr(flags, f.name) for f in fields(flags) if f.name not in NOT_KEPT}
    kept |= {
        "data": data_source.absolute(source),
        "reading": flags.reading.as_dict(),
        "options": asdict(flags.run),
        "recipe": named.base or flags.recipe,
    }
    trainer.setup = {"model": model, "flags": kept}
    return trainer, model, source


def _before(flags):
    """-> flags and model of the run to resume; {}, None for a new run"""
    return setup_file.load(RunFolder(flags.run_dir).setup, flags.model) if flags.resume else ({}, None)


def _new_run_dir(name):
    candidates = (Path("runs", name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(path for path in candidates if not path.exists())


def _summary(trainer, flags, model, source):
    state, shape = trainer.state, "x".join(map(str, trainer.data.shape))
    sizes = [sum(p.numel() for p in network.parameters()) for network in (state.generator, state.discriminator)]
    begin = f"from step {state.step} (the newest whole checkpoint) " if state.step else ""
    done = f"\nnothing to do: the run is at step {state.step} already" if state.step >= flags.steps else ""
    return (
        f"{flags.recipe}: {model['name']} (generator {sizes[0]:,}, discriminator {sizes[1]:,} parameters)"
        f" on {source} ({len(trainer.data):,} samples {shape}), {begin}to step {flags.steps} on {trainer.device}\n"
        f"run:     {trainer.folder.path}{done}"
    )
