"""`fastgan sample`"""

from dataclasses import dataclass
from pathlib import Path

from fastgan import data
from fastgan.cli import setup_file
from fastgan.cli.flags import at_least_one, mendable, parse
from fastgan.models import sampling
from fastgan.report import save_grid


@dataclass(frozen=True)
class Sample:
    """Draw images from the averaged generator of a run's newest checkpoint."""

    run_dir: Path = Path()
    """The run's folder."""

    count: int = 64
    """How many images; of a class-conditional run, the classes take turns."""

    out: Path = Path("samples.png")
    """The PNG to write."""

    seed: int = 0
    """Which images: the same seed, the same images."""

    columns: int | None = None
    """Images in a row; by default as many as rows."""


def main(arguments):
    flags = parse("sample", Sample(), arguments)
    with mendable(ValueError, TypeError, OSError):
        at_least_one(flags, "count", "columns")
        generator, before, model, _ = setup_file.load_generator(flags.run_dir)
        z = sampling.latents(generator, flags.count, flags.seed, "samples")
        source = None
        if sampling.takes_source(generator):
            source = data.load(before["data"], model["resolution"], model["channels"])
        images = sampling.sample(generator, z, sampling.conditions(generator, source, flags.count))
        if images.dim() != 4:
            raise ValueError(f"{flags.run_dir}: makes points of shape {tuple(images.shape[1:])}, no images")
        save_grid(images[:, -1:] if images.shape[1] == 2 else images[:, -3:], flags.out, flags.columns)
    print(f"{flags.count} images: {flags.out}")
