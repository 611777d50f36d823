"""`fastgan stages`"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastgan import data, training
from fastgan.cli.flags import RecipeFlags, at_least_one, mendable, parse, recipe_flags, recipe_of
from fastgan.training.recipe import presets


@dataclass(frozen=True)
class Stages:
    """Train two stages, one after the other: a silhouette first, then the image on it. A run that is there goes on."""

    data: str = "fashion"
    """A data set of images by name, or a folder."""

    first_steps: int = 2000
    """Updates of stage I, which draws silhouettes."""

    second_steps: int = 3000
    """Updates of stage II, which paints the image on what stage I draws."""

    joint: bool = False
    """Stage I goes on training in stage II; by default it is frozen, with its averaged weights."""

    run_dir: Path = Path("runs/stages")
    """Where both stages are kept, in stage_one and stage_two."""

    resolution: int | None = None
    """Side of the square images in pixels."""

    width: int = 32
    """Size of each stage's networks."""

    z_dim: int = 100
    """Dimensions of each stage's latents."""

    device: str | None = None
    """cpu, cuda, cuda:1, ...; by default the GPU where there is one."""

    learning: RecipeFlags = field(default_factory=lambda: recipe_flags(presets.recipe("two-stage").settings))


def main(arguments: list[str]) -> None:
    flags = parse("stages", Stages(), arguments)
    with mendable(ValueError, TypeError, OSError, training.Diverged):
        at_least_one(flags, "first_steps", "second_steps", "width", "z_dim", "resolution")
        images = data.load(flags.data, flags.resolution)
        if len(images.shape) != 3 or images.shape[0] not in (1, 3):
            raise ValueError(f"data must be images with 1 or 3 channels; {flags.data} has samples {images.shape}")
        size: dict[str, Any] = {
            "joint": flags.joint,
            "width": flags.width,
            "z_dim": flags.z_dim,
            "device": flags.device,
        }
        stages = training.TwoStage(images, recipe_of(flags.learning), run_dir=flags.run_dir, **size)
        trainer = stages.fit(flags.first_steps, flags.second_steps)
    print(f"shapes:  {flags.run_dir / 'stage_one' / 'samples.png'}\nsamples: {trainer.folder.samples}")
