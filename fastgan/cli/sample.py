"""`fastgan sample`"""

from dataclasses import dataclass
from pathlib import Path

import torch

from fastgan import training
from fastgan.cli.flags import at_least_one, mendable, parse
from fastgan.data import data_source
from fastgan.figures import save_grid, save_images
from fastgan.models import sampling

WIDEST = 16  # classes in a row, a column each


@dataclass(frozen=True)
class Sample:
    """Draw images from the averaged generator of a run's newest checkpoint."""

    run_dir: Path = Path()
    """The run's folder; or its best/, or one of its checkpoints."""

    best: bool = False
    """From the best checkpoint, which a run with --stop-when or --evaluate-every keeps."""

    model: str | None = None
    """Of a run with networks of your own: their module:function, named again; the folder alone does not make code
    run."""

    count: int = 64
    """How many images; of a class-conditional run, the classes take turns."""

    classes: str = ""
    """Of a class-conditional run: the numbers of the classes to draw, with commas; by default all. Also --class."""

    out: str = "samples.png"
    """The picture to write, in the format of its suffix (.png, .jpg, .webp, ...); or a folder, one that is there or a
    name that ends in /, for a numbered PNG of each image."""

    seed: int = 0
    """Which images: the same seed, the same images."""

    columns: int | None = None
    """Images in a row; by default as many as rows, or a column for each class."""


def main(arguments: list[str]) -> None:
    arguments = [a.replace("--class", "--classes", 1) if a.split("=")[0] == "--class" else a for a in arguments]
    flags = parse("sample", Sample(), arguments)
    with mendable(ValueError, TypeError, OSError):
        at_least_one(flags, "count", "columns")
        run = training.load_generator(flags.run_dir, best=flags.best, model=flags.model)
        z = sampling.latents(run.generator, flags.count, flags.seed, "samples")
        labels = _labels(run.generator, flags)
        condition = labels
        if sampling.takes_source(run.generator):
            source = run.flags.get("data")
            if source is None:
                raise ValueError(f"{flags.run_dir}: does not name the data whose images its generator translates")
            source, reading = data_source.recorded(source), data_source.Reading.of(run.flags)
            source = data_source.load(source, run.model["resolution"], run.model["channels"], reading=reading)
            condition = sampling.conditions(run.generator, source, flags.count)
        images = sampling.sample(run.generator, z, condition)
        if images.dim() != 4:
            raise ValueError(f"{flags.run_dir}: makes points of shape {tuple(images.shape[1:])}, not images")
        if not images.isfinite().all():
            raise ValueError(f"{flags.run_dir}: step {run.step} makes images that are not finite: the run has diverged")
        images = images[:, -1:] if images.shape[1] == 2 else images[:, -3:]
        if flags.out.endswith("/") or Path(flags.out).is_dir():
            save_images(images, flags.out)
        else:
            captions = None if labels is None else [str(label) for label in labels.tolist()]
            chosen = len(set(captions or ()))
            columns = flags.columns or (chosen if 1 < chosen <= WIDEST else None)
            save_grid(images, flags.out, columns, captions)
    print(f"{flags.count} images: {flags.out}")


def _labels(generator, flags):
    """The classes in turn, or None for a generator without. Errors: ValueError for classes that are not there."""
    known = getattr(generator, "classes", None)
    if not known:
        if flags.classes:
            raise ValueError(f"{flags.run_dir}: is not class-conditional, and does not take --classes")
        return None
    try:
        chosen = [int(text) for text in flags.classes.split(",")] if flags.classes else range(known)
    except ValueError:
        chosen = [-1]
    if not all(0 <= number < known for number in chosen):
        raise ValueError(f"classes must be numbers from 0 to {known - 1}, with commas; got {flags.classes!r}")
    return torch.tensor([chosen[i % len(chosen)] for i in range(flags.count)])
