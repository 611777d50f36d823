"""`fastgan compare`"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from fastgan import data, metrics, training
from fastgan.atomic_file import replacing
from fastgan.cli import extractors
from fastgan.cli.flags import at_least_one, mendable, parse
from fastgan.figures import save_comparison
from fastgan.training.compare import compare, draw
from fastgan.training.recipe import presets


@dataclass(frozen=True)
class Compare:
    """Train recipes on the same data with the same budget and seeds; a table, and a figure of them side by side."""

    recipes: tuple[str, ...] = ()
    """Their names, as in `fastgan recipes`."""

    data: str = "grid"
    """A data set by name, or images as `fastgan train --data` takes them."""

    steps: int = 2000
    """Updates of the generator in each run."""

    seeds: int = 1
    """Runs of each recipe, with seeds 0, 1, ..."""

    run_dir: Path = Path("runs/compare")
    """Where the runs, the table and the figure are kept; runs that are there go on."""

    resolution: int | None = None
    """Side of images in pixels."""

    width: int | None = None
    """Size of the networks; by default each architecture's own."""

    model: str | None = None
    """The architecture for all recipes; by default each recipe's own."""

    batch_size: int | None = None
    """Samples in an update; by default each recipe's own."""

    count: int = 2000
    """Images that the metrics of image data are computed over."""

    extractor: str | None = None
    """What makes the features of the metrics, as for `fastgan evaluate`: fashion-cnn by default, which knows garments
    alone."""


def main(arguments: list[str]) -> None:
    names = []
    while arguments and not arguments[0].startswith("-"):
        names.append(arguments.pop(0))
    flags = parse("compare", Compare(recipes=tuple(names)), arguments)
    with mendable(ValueError, TypeError, OSError, training.Diverged):
        chosen = {name: presets.recipe(name) for name in flags.recipes}
        if not chosen:
            raise ValueError("name the recipes to compare: `fastgan compare minimax pacgan2 --data grid`")
        at_least_one(flags, "steps", "seeds", "count", "resolution", "width", "batch_size")
        samples = data.load(flags.data, flags.resolution)
        settings = {} if flags.batch_size is None else {"batch_size": flags.batch_size}
        outcomes = compare(
            chosen,
            samples,
            steps=flags.steps,
            seeds=flags.seeds,
            run_dir=flags.run_dir,
            observe=_observe_images(samples, flags) if len(samples.shape) == 3 else None,
            settings=settings,
            model=flags.model,
            width=flags.width,
            sample_every=flags.steps,
            checkpoint_every=flags.steps,
        )
    print(_table(outcomes))
    kept = flags.run_dir / "comparison.json"
    values = [{k: v for k, v in asdict(outcome).items() if k not in ("samples", "log")} for outcome in outcomes]
    with replacing(kept) as unfinished:
        unfinished.write_text(json.dumps({"data": flags.data, "steps": flags.steps, "outcomes": values}, indent=1))
    figure = flags.run_dir / "comparison.png"
    save_comparison([outcome.picture() for outcome in outcomes], figure, getattr(samples, "modes", None))
    print(f"figure:  {figure}\nnumbers: {kept}")


def _observe_images(samples, flags):
    """FID, precision, recall, density and coverage in the extractor's features."""
    extractor, count = extractors.of(flags.extractor, flags.data), flags.count
    real = metrics.Samples.of(samples.batch(torch.arange(min(count, len(samples))))[0], extractor)

    def observe(trainer):
        fake = metrics.Samples.of(draw(trainer, count, "metrics").clamp(-1, 1), extractor)
        return {m.name: m.value for m in metrics.measure(real, fake, ("fid", "prdc"))}

    return observe


def _table(outcomes):
    summaries = [outcome.summary() for outcome in outcomes]
    names = list(summaries[0])
    width = max(len(outcome.recipe) for outcome in outcomes)
    lines = [f"{'recipe':<{width}}  " + "  ".join(f"{name:>20}" for name in names)]
    for outcome, summary in zip(outcomes, summaries, strict=True):
        cells = [f"{mean:.3g} ± {error:.2g}" if error == error else f"{mean:.3g}" for mean, error in summary.values()]
        lines.append(f"{outcome.recipe:<{width}}  " + "  ".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)
