"""`fastgan sample`"""

from dataclasses import dataclass
from pathlib import Path

from fastgan import models
from fastgan.cli import setup_file
from fastgan.cli.flags import mendable, parse
from fastgan.report import save_grid
from fastgan.training import checkpoint, sampling
from fastgan.training.run_folder import RunFolder


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
        for name in ("count", "columns"):
            if getattr(flags, name) is not None and getattr(flags, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(flags, name)}")
        folder = RunFolder(flags.run_dir)
        _, model = setup_file.load(folder.setup)
        generator = models.create(**model).generator
        found = checkpoint.latest(folder.checkpoints)
        if found is None:
            raise FileNotFoundError(f"{folder.path}: has no checkpoint yet")
        checkpoint.load_network(generator, found / "average.safetensors")
        z = sampling.latents(generator, flags.count, flags.seed, "samples")
        images = sampling.sample(generator, z, sampling.labels_in_turn(generator, flags.count))
        save_grid(images, flags.out, flags.columns)
    print(f"{flags.count} images: {flags.out}")
