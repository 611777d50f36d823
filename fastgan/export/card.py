"""A model card, drawn from what the folder of a run says."""

import json
from pathlib import Path

from fastgan.atomic_file import replacing
from fastgan.figures import save_grid
from fastgan.models import sampling
from fastgan.training import Recipe
from fastgan.training.run.load_generator import Loaded

COUNT, COLUMNS = 32, 8


def write_card(run: Loaded, folder: str | Path, model: str | None = None) -> Path:
    """Write folder/README.md, the model card of a run, and folder/samples.png if the run makes images. Returns the
    card's path.

    The card holds the model, the data, the step, the recipe, where it differs from the defaults, each metric that
    `fastgan evaluate` kept for this step, with its extractor, and how to load the generator. model: of networks of your
    own, their "module:function".
    """
    folder, name = Path(folder), run.model["name"]
    lines = ["---", "library_name: fastgan", "tags: [gan]", "---", "", f"# {name}, step {run.step}", ""]
    if _draw(run, folder / "samples.png"):
        lines += ["![Samples](samples.png)", ""]
    own = f", model={model!r}" if model else ""
    lines += [
        "```python",
        "import fastgan, torch",
        "",
        f'generator = fastgan.load("."{own})  # this folder',
        f"z = torch.randn(16, generator.z_dim){CALLS[_kind(run.generator)]}",
        "```",
        "",
        f"- Data: {run.flags.get('data') or 'a data set without a name, given from Python'}",
        f"- Model: {', '.join(f'{key} = {value}' for key, value in run.model.items())}",
        f"- Weights: averaged over the steps, ema_decay = {run.recipe.ema_decay}; spectral norm is folded in",
        "",
        "## Recipe",
        "",
        f"Recipe {run.flags.get('recipe') or 'from Python'}. A field that is not listed has its default value.",
        "",
        "| field | value |",
        "|---|---|",
        *(f"| {field} | {_cell(value)} |" for field, value in _changed(run.recipe).items()),
        "",
        "## Metrics",
        "",
        *_metrics(run),
    ]
    path = folder / "README.md"
    with replacing(path) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n")
    return path


CALLS = {
    "latents": "\nimages = generator(z)",
    "classes": "\nimages = generator(z, torch.arange(16) % generator.classes)",
    "translates": "\nimages = generator(z, source)  # source (16, channels, height, width) in [-1, 1]",
}


def _kind(generator):
    if sampling.takes_source(generator):
        return "translates"
    return "classes" if getattr(generator, "classes", None) else "latents"


def _draw(run, path):
    """Whether there is a picture now: of images that depend on latents, and labels in turn, alone."""
    if sampling.takes_source(run.generator):
        return False
    z = sampling.latents(run.generator, COUNT, 0, "samples")
    images = sampling.sample(run.generator, z, sampling.labels_in_turn(run.generator, COUNT))
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        return False
    save_grid(images, path, COLUMNS)
    return True


def _changed(recipe):
    default = Recipe().as_dict()
    return {name: value for name, value in recipe.as_dict().items() if value != default[name]}


def _cell(value):
    return str(value).replace("|", "\\|")


def _metrics(run):
    """The numbers of this step that `fastgan evaluate` kept, each with its extractor and its numbers of samples."""
    file = run.folder.evaluations
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    rows = [row for row in rows if row.get("step") == run.step]
    if not rows:
        return ["None were measured at this step: `fastgan evaluate` measures them."]
    return [
        "| metric | value | extractor | samples | real samples | against |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['metric']} | {row['value']:.5g} | {row['extractor'] or 'none'} | {row['n']} | {row['n_real']} |"
            f" {_cell(row.get('against'))} |"
            for row in rows
        ),
    ]
