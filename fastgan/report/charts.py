"""Charts from the log's rows, as the plain values that plotly.js draws."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastgan.report.run_record import Record

MOST = 1500  # points in a curve; of more, neighbours are averaged
DECADES = 3  # a chart of positive values over more of them has a logarithmic axis

Rows = list[list[dict[str, Any]]]  # of each run
Read = Callable[[dict[str, Any]], Any]  # a row -> the value of a curve there, or None
NOT_A_TERM = {"step", "d_loss", "g_loss", "d_real", "d_fake", "steps_per_second"}


def charts(records: list[Record]) -> list[dict[str, Any]]:
    """One chart for each subject that a run has numbers of: {"title", "note", "log", "zero", "curves"}.

    A curve is {"run": index, "kind": index of what it shows, "name", "x", "y"}; y has None for NaN and infinity.
    """
    rows = [record.rows for record in records]
    names = sorted({name for run in rows for row in run for name in row})
    norms = [name for name in names if name.endswith("_gradient_norm") and not name.startswith("watch_")]
    terms = sorted({name for run in rows for row in run for name, value in row.items() if _is_term(name, value)})
    metrics = sorted({str(row["name"]) for record in records for row in record.evaluations if "name" in row})
    found = [
        _chart("Losses", "", rows, {"discriminator": "d_loss", "generator": "g_loss"}),
        _chart("Discriminator's outputs", "The mean logits of a batch.", rows, {"D(x)": "d_real", "D(G(z))": "d_fake"}),
        _chart(
            "Gradient norms",
            "Of all weights together, and of the logits at single samples if a penalty measures them.",
            rows,
            {"discriminator": "watch_d_grad", "generator": "watch_g_grad"}
            | {name.replace("_", " "): name for name in norms},
        ),
        _chart("Penalties and terms", "Each with its weight.", rows, {name: name for name in terms}),
        _chart(
            "Distance from real samples",
            "Kernel distance of the averaged generator's samples; lower is better.",
            rows,
            {"kernel distance": "watch_kernel_distance", "noise": "watch_kernel_noise"},
        ),
        _chart(
            "Variety",
            "Diversity is 1 if samples are as far apart as real ones. Coverage is the share of real samples with a"
            " generated neighbour.",
            rows,
            {"diversity": "watch_diversity", "coverage": "watch_coverage", "possible": "watch_coverage_expected"},
            zero=True,
        ),
        _covered(rows),
        *(_evaluation(records, name) for name in metrics),
        _chart(
            "What the discriminator tells apart",
            "The share of pairs of a real and a generated sample that it puts in order. Chance is 0.5.",
            rows,
            {"pairs in order": "watch_auc"},
            zero=True,
        ),
        _learning_rates(records),
        _chart("Speed", "", rows, {"steps per second": "steps_per_second"}, zero=True),
    ]
    return [chart for chart in found if chart["curves"]]


def _is_term(name, value):
    return (
        _is_number(value) and name not in NOT_A_TERM and not name.startswith("watch_") and "gradient_norm" not in name
    )


def _chart(title: str, note: str, rows: Rows, series: Mapping[str, str | Read], zero: bool = False) -> dict[str, Any]:
    """series: label -> the name in the rows, or a function of a row. zero: the axis begins at 0."""
    curves = []
    for run, run_rows in enumerate(rows):
        for kind, (label, read) in enumerate(series.items()):
            values = ((row["step"], read(row) if callable(read) else row.get(read)) for row in run_rows)
            curves += _curve(run, kind, label, [(step, _finite(value)) for step, value in values if value is not None])
    return {"title": title, "note": note, "log": not zero and _spans_decades(curves), "zero": zero, "curves": curves}


def _curve(run, kind, label, points):
    if not any(y is not None for _, y in points):
        return []
    x, y = zip(*_thinned(points), strict=True)
    return [{"run": run, "kind": kind, "name": label, "x": list(x), "y": list(y)}]


def _thinned(points):
    size = math.ceil(len(points) / MOST)
    if size <= 1:
        return points
    groups = (points[start : start + size] for start in range(0, len(points), size))
    return [(group[-1][0], _mean(y for _, y in group)) for group in groups]


def _mean(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None


def _spans_decades(curves):
    values = [y for curve in curves for y in curve["y"] if y is not None]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 10**DECADES


def _learning_rates(records):
    """As the recipes have them, schedules included."""
    rates = [[{"step": step, "generator": g, "discriminator": d} for step, g, d in r.rates] for r in records]
    return _chart("Learning rates", "", rates, {name: name for name in ("generator", "discriminator")}, zero=True)


def _covered(rows):
    def classes(row):
        total, missing = row.get("watch_classes"), row.get("watch_classes_missing")
        return total - missing if _is_number(total) and _is_number(missing) else None

    def modes(row):
        total, missing = row.get("watch_modes"), row.get("watch_modes_missing")
        return total - len(missing) if _is_number(total) and isinstance(missing, list) else None

    series = {"classes": classes, "modes": modes}
    kinds = [kind for kind, read in series.items() if any(read(row) is not None for run in rows for row in run)]
    words = " and ".join(kinds)
    return _chart(
        f"{words.capitalize()} covered",
        f"{words.capitalize()} with at least a tenth of the samples that are due to each.",
        rows,
        {f"all {kind}": f"watch_{kind}" for kind in kinds} | {f"covered {kind}": series[kind] for kind in kinds},
        zero=True,
    )


def _evaluation(records, name):
    rows = [
        sorted((row for row in r.evaluations if row.get("name") == name), key=lambda row: row["step"]) for r in records
    ]
    return _chart(name, "By `fastgan evaluate`.", rows, {name: "value"})


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _finite(value):
    return value if _is_number(value) and math.isfinite(value) else None
