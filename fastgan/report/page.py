"""The page: one HTML file with everything inside, charts by plotly.js. Nothing is loaded when the page is read."""

import base64
import io
import json
import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fastgan.atomic_file import replacing
from fastgan.extras import require
from fastgan.report.charts import charts
from fastgan.report.run_record import Record, record

PICTURES = 24  # of the samples over time; of more, so many evenly spaced ones
WIDEST = 720  # pixels of a picture
SMALLEST = 64  # the side of a single image; smaller ones are enlarged by a whole factor


def save_report(runs: Any, path: str | Path) -> None:
    """Write the page of a run, or of several side by side. runs: one or a list of folders, Trainers or Records.

    Errors: FileNotFoundError for a folder without a run; ModuleNotFoundError without plotly or jinja2.
    """
    page = render(runs)
    with replacing(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def render(runs: Any) -> str:
    """The page as text; arguments and errors are save_report's."""
    several = isinstance(runs, list | tuple) and not isinstance(runs, Record)
    records = [record(run) for run in (runs if several else [runs])]
    if not records:
        raise ValueError("runs must name at least one run")
    return _template().render(
        records=records,
        runs=[_shown(r) for r in records],
        absent={name for r in records for name in r.missing},
        differences=_differences(records) if len(records) > 1 else [],
        data=_json({"charts": charts(records), "runs": [_drawn(r) for r in records]}),
        plotly=require("plotly.offline").get_plotlyjs(),
    )


@cache
def _template():
    jinja2 = require("jinja2")
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "page")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["value"] = _text
    return environment.get_template("report.html")


def _shown(run):
    """What the template says of a run, beside its record."""
    recipe = [(name, value) for name, value in run.recipe.items() if name not in run.changed]
    environment = [(name.replace("_", " "), value) for name, value in run.environment.items()]
    newest = {key: value for row in run.rows for key, value in row.items()}
    return {"kept": recipe, "environment": environment, "newest": _summary(newest), "images": _images(run)}


def _summary(newest):
    """The numbers that a reader looks for first: (label, text)."""
    numbers = [
        ("kernel distance", newest.get("watch_kernel_distance"), "{:.3g}"),
        ("coverage", newest.get("watch_coverage"), "{:.2f}"),
        ("diversity", newest.get("watch_diversity"), "{:.2f}"),
        ("steps per second", newest.get("steps_per_second"), "{:.3g}"),
    ]
    return [(label, form.format(value)) for label, value, form in numbers if isinstance(value, int | float)]


def _images(run):
    """Single pictures as data URIs."""
    found = {"real": _file(run.real) if run.real else None, "nearest": []}
    if (near := run.views.nearest) is not None:
        pairs = zip(near.images, near.real, near.distances, strict=True)
        found["nearest"] = sorted(
            ((_tensor(a), _tensor(b), d / near.typical if near.typical else math.inf) for a, b, d in pairs),
            key=lambda pair: pair[2],
        )
    return found


def _drawn(run):
    """What the page's script draws: pictures over time, the walk's frames, the attention maps, the findings."""
    every = max(math.ceil(len(run.pictures) / PICTURES), 1)
    pictures = run.pictures[::-1][::every][::-1]  # the newest is one of them
    drawn = {
        "title": run.title,
        "pictures": [{"step": step, "src": src} for step, path in pictures if (src := _file(path))],
        "findings": [held._asdict() for held in run.findings],
        "walk": None,
        "attention": None,
    }
    if (walk := run.views.walk) is not None:
        strip = _bytes(walk)  # (frames, N, C, H, W): a row of the sheet for each frame
        frames, count, channels, height, width = strip.shape
        sheet = strip.permute(0, 3, 1, 4, 2).reshape(frames * height, count * width, channels)
        size = {"frames": frames, "count": count, "side": width, "height": height}
        drawn["walk"] = {"src": _webp(sheet), **size}
    if (attention := run.views.attention) is not None:
        drawn["attention"] = {
            "images": [_tensor(image) for image in attention.images],
            "layers": [_layer(name, weights) for name, weights in attention.maps.items()],
        }
    return drawn


def _layer(name, weights):
    data = (weights * 255).round().to(torch.uint8).numpy().tobytes()
    return {"name": name, "shape": list(weights.shape), "data": base64.b64encode(data).decode()}


def _differences(records):
    """(field, [value of each run]) where the runs' recipes, models, data or environments differ."""
    tables = [
        run.recipe
        | {f"model: {name}": value for name, value in run.model.items()}
        | {"data": run.data}
        | {name: value for name, value in run.environment.items() if name != "started"}
        for run in records
    ]
    names: Iterable[str] = dict.fromkeys(name for table in tables for name in table)
    rows = [(name.replace("_", " "), [table.get(name) for table in tables]) for name in names]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values)]


def _text(value):
    """A value of a recipe as a reader writes it."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    if value is None or value == "":
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _json(value):
    """JSON that cannot end the script element that holds it. plotly.js has no NaN: charts have None there."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")


def _file(path):
    """A picture file as a smaller data URI; "" for what is not a picture."""
    image = require("PIL.Image")
    try:
        with image.open(path) as picture:
            picture = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return ""
    if picture.width > WIDEST:
        picture = picture.resize((WIDEST, round(picture.height * WIDEST / picture.width)), image.Resampling.LANCZOS)
    return _encoded(picture, quality=82)


def _bytes(images):
    return images.nan_to_num(0.0).clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def _tensor(image):
    """(C, H, W) in [-1, 1] -> a data URI"""
    factor = math.ceil(SMALLEST / min(image.shape[1:]))
    pixels = _bytes(image.detach().cpu().float()).permute(1, 2, 0)
    return _webp(pixels.repeat_interleave(factor, 0).repeat_interleave(factor, 1))


def _webp(pixels):
    """(H, W, C) uint8 -> a data URI"""
    pixels = pixels.expand(-1, -1, 3).contiguous()
    return _encoded(require("PIL.Image").fromarray(pixels.numpy()), quality=88)


def _encoded(picture, quality):
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
