"""`fastgan train`"""

import sys
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Literal

import torch

from fastgan import data, models, training
from fastgan.cli import setup_file
from fastgan.cli.flags import at_least_one, mendable, parse
from fastgan.training import networks
from fastgan.training.recipe import presets
from fastgan.training.run.folder import RunFolder


@dataclass(frozen=True)
class Train:
    """Train a pair of networks. Without flags: garments of 28 pixels, in minutes on two processor cores."""

    recipe: Literal[presets.names()] = "default"
    """The recipe whose values the flags below start from; `fastgan recipes` lists them."""

    data: str | None = None
    """A data set by name ("fashion", embedded; "ring", "grid", ...), or a folder of images, flat or with a sub-folder
    for each class; by default the recipe's, mostly "fashion"."""

    model: Literal[models.names()] | None = None
    """The architecture of both networks; by default the recipe's, and "mlp" for points."""

    steps: int = 5000
    """Updates of the generator, those before a resume included."""

    run_dir: Path | None = None
    """Where the run is kept; by default a new folder in runs/."""

    resume: bool = False
    """Go on from the newest checkpoint in run_dir; all flags are as before, where not given anew."""

    resolution: int | None = None
    """Side of the square images in pixels; by default 28 for the garments, 64 for a folder."""

    channels: int | None = None
    """1 (grey) or 3 (colour); by default 1 for the garments, 3 for a folder."""

    conditional: bool = False
    """Train both networks with the labels of the images; some recipes do so by themselves."""

    width: int | None = None
    """Size of the networks, as each architecture defines it; by default its paper's."""

    z_dim: int | None = None
    """Dimensions of the latent space; by default the architecture's."""

    device: str | None = None
    """cpu, cuda, cuda:1, ...; by default the GPU where there is one."""

    threads: int | None = None
    """Processor threads; by default torch's choice, one for each core."""

    log_every: int = 50
    """Steps from one line of metrics.jsonl to the next."""

    sample_every: int = 500
    """Steps from one grid of samples to the next."""

    checkpoint_every: int = 1000
    """Steps from one checkpoint to the next."""

    stop_when: Literal["plateau", "gap", "wasserstein", "never"] = "never"
    """Stop before `steps` where a number has stopped falling; best/ in the run's folder holds the best state.
    "plateau": the samples' distance from real ones; "gap": the duality gap, at a cost of 300 updates every
    sample_every steps; "wasserstein": the critic's estimate of that distance."""

    settings: training.Recipe = field(default_factory=training.Recipe)


def main(arguments):
    flags = parse("train", Train(), arguments)
    with mendable(ValueError, TypeError, OSError):
        flags = parse("train", _defaults(flags), arguments)
        trainer, model = _prepare(flags)
    print(_summary(trainer, flags, model))
    try:
        with mendable(training.Diverged, data.ImageError, OSError):
            trainer.fit(flags.steps)
    except KeyboardInterrupt:
        step, run = trainer.state.step, trainer.folder.path
        print(
            f"\nstopped at step {step}; `--resume --run-dir {run}` goes on from the newest checkpoint", file=sys.stderr
        )
        return 130
    folder, best = trainer.folder, trainer.best_step
    if best is not None and trainer.state.step < flags.steps:
        print(f"stopped at step {trainer.state.step}: no better than at step {best} beyond the noise")
        print(f"best:    {folder.best}")
    print(f"samples: {folder.samples}\ncurves:  {folder.curves}")
    for line in folder.findings.read_text().splitlines() if folder.findings.exists() else ():
        print(f"finding: {line}")
    print(f"more:    fastgan sample --run-dir {folder.path} --out more.png")


def _defaults(flags):
    """What the flags that were not given stand for: the named recipe, or the run to resume."""
    if not flags.resume:
        return replace(Train(), settings=presets.recipe(flags.recipe).settings)
    if flags.run_dir is None:
        raise ValueError("--resume needs --run-dir")
    folder = RunFolder(flags.run_dir)
    before, _ = setup_file.load(folder.setup)
    return replace(Train(), **before, settings=training.Recipe.load(folder.recipe))


def _prepare(flags):
    at_least_one(flags, "steps", "threads", "log_every", "sample_every", "checkpoint_every")
    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    named = presets.recipe(flags.recipe)
    source = flags.data or named.data
    samples = data.load(source, flags.resolution, flags.channels)
    if flags.conditional and samples.classes is None:
        raise ValueError(f"--conditional needs labels: {source} has none")
    asked = {"model": flags.model, "conditional": flags.conditional, "width": flags.width, "z_dim": flags.z_dim}
    model = networks.describe(samples, named, flags.settings, **asked)
    trainer = training.Trainer(
        *networks.build(model, flags.settings),
        flags.settings,
        samples,
        run_dir=flags.run_dir or _new_run_dir(f"{Path(source).name}-{model['name']}"),
        resume=flags.resume,
        device=flags.device,
        log_every=flags.log_every,
        sample_every=flags.sample_every,
        checkpoint_every=flags.checkpoint_every,
        stop_when=flags.stop_when,
    )
    setup_file.save(trainer.folder.setup, replace(flags, data=source), model)
    return trainer, model


def _new_run_dir(name):
    candidates = (Path("runs", name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(path for path in candidates if not path.exists())


def _summary(trainer, flags, model):
    state, shape = trainer.state, "x".join(map(str, trainer.data.shape))
    sizes = [sum(p.numel() for p in network.parameters()) for network in (state.generator, state.discriminator)]
    begin = f"from step {state.step} " if state.step else ""
    return (
        f"{flags.recipe}: {model['name']} (generator {sizes[0]:,}, discriminator {sizes[1]:,} parameters)"
        f" on {flags.data or presets.recipe(flags.recipe).data} ({len(trainer.data):,} samples {shape}),"
        f" {begin}to step {flags.steps} on {trainer.device}\n"
        f"run:     {trainer.folder.path}"
    )
