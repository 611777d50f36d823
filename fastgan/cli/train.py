"""`fastgan train`"""

import sys
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Literal

import torch

from fastgan import data, models, randomness, training
from fastgan.cli import setup_file
from fastgan.cli.flags import mendable, parse
from fastgan.training.recipes import RECIPES, recipe
from fastgan.training.run_folder import RunFolder


@dataclass(frozen=True)
class Train:
    """Train a pair of networks. Without flags: garments of 28 pixels, in minutes on two processor cores."""

    recipe: Literal[tuple(RECIPES)] = "default"
    """The recipe whose values the flags below start from."""

    data: str = "fashion"
    """"fashion" (embedded), or a folder of images, flat or with a sub-folder for each class."""

    model: Literal[models.names()] = "dcgan"
    """The architecture of both networks."""

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
    """Train both networks with the labels of the images."""

    width: int | None = None
    """Size of the networks, as each architecture defines it; by default its paper's."""

    z_dim: int | None = None
    """Dimensions of the latent space; by default the architecture's."""

    spectral_norm: Literal["both", "discriminator", "none"] = "both"
    """Which network's weights are spectrally normalised."""

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

    settings: training.Recipe = field(default_factory=training.Recipe)


def main(arguments):
    flags = parse("train", Train(), arguments)
    with mendable(ValueError, TypeError, OSError):
        flags = parse("train", _defaults(flags), arguments)
        trainer = _prepare(flags)
    print(_summary(trainer, flags))
    try:
        with mendable(training.Diverged, data.ImageError, OSError):
            trainer.fit(flags.steps)
    except KeyboardInterrupt:
        step, run = trainer.state.step, trainer.folder.path
        print(
            f"\nstopped at step {step}; `--resume --run-dir {run}` goes on from the newest checkpoint", file=sys.stderr
        )
        return 130
    folder = trainer.folder
    print(f"samples: {folder.samples}\ncurves:  {folder.curves}")
    print(f"more:    fastgan sample --run-dir {folder.path} --out more.png")


def _defaults(flags):
    """What the flags that were not given stand for: the named recipe, or the run to resume."""
    if not flags.resume:
        return replace(Train(), settings=recipe(flags.recipe))
    if flags.run_dir is None:
        raise ValueError("--resume needs --run-dir")
    folder = RunFolder(flags.run_dir)
    before, _ = setup_file.load(folder.setup)
    return replace(Train(), **before, settings=training.Recipe.load(folder.recipe))


def _prepare(flags):
    for name in ("steps", "threads", "log_every", "sample_every", "checkpoint_every"):
        if getattr(flags, name) is not None and getattr(flags, name) < 1:
            raise ValueError(f"{name} must be at least 1; got {getattr(flags, name)}")
    if flags.threads is not None:
        torch.set_num_threads(flags.threads)
    images = data.load(flags.data, flags.resolution, flags.channels)
    if flags.conditional and images.classes is None:
        raise ValueError(f"--conditional needs labels: {flags.data} has no sub-folders")
    model = {
        "name": flags.model,
        "channels": images.shape[0],
        "resolution": images.shape[1],
        "classes": len(images.classes) if flags.conditional else None,
        "width": flags.width,
        "z_dim": flags.z_dim,
        "spectral_norm": flags.spectral_norm,
    }
    with randomness.global_seed(flags.settings.seed, "initial weights"):
        pair = models.create(**model)
    trainer = training.Trainer(
        *pair,
        flags.settings,
        images,
        run_dir=flags.run_dir or _new_run_dir(f"{Path(flags.data).name}-{flags.model}"),
        resume=flags.resume,
        device=flags.device,
        log_every=flags.log_every,
        sample_every=flags.sample_every,
        checkpoint_every=flags.checkpoint_every,
    )
    setup_file.save(trainer.folder.setup, flags, model)
    return trainer


def _new_run_dir(name):
    candidates = (Path("runs", name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(path for path in candidates if not path.exists())


def _summary(trainer, flags):
    state, shape = trainer.state, "x".join(map(str, trainer.data.shape))
    sizes = [sum(p.numel() for p in network.parameters()) for network in (state.generator, state.discriminator)]
    begin = f"from step {state.step} " if state.step else ""
    return (
        f"{flags.model} (generator {sizes[0]:,}, discriminator {sizes[1]:,} parameters)"
        f" on {flags.data} ({len(trainer.data):,} images {shape}), {begin}to step {flags.steps} on {trainer.device}\n"
        f"run:     {trainer.folder.path}"
    )
