"""`fastgan compare`"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from fastgan import data, metrics, training
from fastgan.atomic_file import replacing
from fastgan.cli import extractors
from fastgan.cli.flags import at_least_one, mendable, parse
from fastgan.extras import require
from fastgan.figures import save_comparison
from fastgan.training.compare import compare, draw
from fastgan.training.recipe import presets


@dataclass(frozen=True)
class Compare:
    """Train recipes on the same data with the same budget and seeds; a table, and a figure of them side by side."""

    recipes: tuple[str, ...] = ()
    """Their names, as in `fastgan recipes`, or files .yaml as for `fastgan train --recipe`."""

    data: str = "grid"
    """A data set by name, as ring, or ring:modes=12,radius=2,sigma=0.02; or images, as `fastgan train --data` takes
    them."""

    steps: int = 2000
    """Updates of the generator in each run."""

    seeds: str = "1"
    """How many runs of each recipe, with seeds 0, 1, ...; or the seeds themselves, as 100-109, or 3,5,8."""

    set: tuple[str, ...] = ()
    """Fields that replace those of all recipes, as --set pack=2 generator_lr=1e-4 "penalties=R1(gamma=1.0)"."""

    run_dir: Path = Path("runs/compare")
    """Where the runs, the table and the figure are kept; runs that are there go on."""

    resolution: int | None = None
    """Side of images in pixels."""

    width: int | None = None
    """Size of the networks; by default each architecture's own."""

    model: str | None = None
    """The architecture for all recipes, or module:function; by default each recipe's own."""

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
        changes = _changes(flags.set)
        chosen = {_title(name): _changed(presets.recipe(name), changes) for name in flags.recipes}
        if not chosen:
            raise ValueError("name the recipes to compare: `fastgan compare minimax pacgan2 --data grid`")
        at_least_one(flags, "steps", "count", "resolution", "width", "batch_size")
        samples = data.load(flags.data, flags.resolution)
        settings = {} if flags.batch_size is None else {"batch_size": flags.batch_size}
        outcomes = compare(
            chosen,
            samples,
            steps=flags.steps,
            seeds=_seeds(flags.seeds),
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


def _seeds(text):
    """The seeds of "3" (0, 1, 2), "100-109" or "3,5,8"."""
    try:
        first, dash, last = text.partition("-")
        if dash:
            found = range(int(first), int(last) + 1)
        else:
            found = [int(part) for part in text.split(",")] if "," in text else range(int(text))
    except ValueError:
        found = ()
    if not found or len(set(found)) < len(found) or min(found) < 0:
        raise ValueError(f"seeds must be a number of at least 1, as 3, or seeds, as 100-109 or 3,5,8; got {text!r}")
    return found


def _changes(texts):
    """("pack=2", ...) -> {"pack": 2, ...}, values as YAML reads them."""
    yaml, changes, default = require("yaml"), {}, training.Recipe()
    for text in texts:
        field, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"set must be field=value, as pack=2; got {text!r}")
        try:
            changes[field] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"set {field}: {value!r} cannot be read as YAML; put the text in quotes") from None
        if isinstance(getattr(default, field, None), tuple) and isinstance(changes[field], str):
            changes[field] = [changes[field]]
    return changes


def _changed(named, changes):
    return replace(named, settings=training.Recipe.from_dict(named.settings.as_dict() | changes))


def _title(name):
    """Of a recipe in the table and in run_dir: of a file, its name without folder and suffix."""
    return Path(name).stem if Path(name).suffix in (".yaml", ".yml") else name


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
