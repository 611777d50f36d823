"""Runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fastgan.atomic_file import replacing
from fastgan.extras import require
from fastgan.figures.grid import make_grid
from fastgan.figures.scatter import draw_points


def save_comparison(runs: Sequence[Mapping[str, Any]], path: Path | str, modes: torch.Tensor | None = None) -> None:
    """A column for each run: its samples over time, its losses, and its scores over time on one scale with the others.

    runs: dicts with
        title    its name
        moments  [step]
        samples  [points (N, 2) or images (N, C, H, W)], one for each moment
        log      rows of a metrics log, with "step", "d_loss", "g_loss"
        scores   name -> [for each seed, [value at each moment]]
    """
    names = sorted({name for run in runs for name in run["scores"]})
    moments = len(runs[0]["moments"])
    rows = [("samples", i) for i in range(moments)] + [("losses", None)] + [("score", name) for name in names]
    heights = [2.4] * moments + [1.8] * (1 + len(names))
    figure = require("matplotlib.figure").Figure(figsize=(3.2 * len(runs) + 0.6, sum(heights)), layout="constrained")
    axes = figure.subplots(len(rows), len(runs), squeeze=False, height_ratios=heights)
    for column, run in enumerate(runs):
        axes[0, column].set_title(run["title"])
        for row, (kind, which) in enumerate(rows):
            axis = axes[row, column]
            if kind == "samples":
                _draw_samples(axis, run["samples"][which], modes)
                label = f"step {run['moments'][which]}"
            elif kind == "losses":
                label = "losses"
                for name, title in (("d_loss", "critic"), ("g_loss", "generator")):
                    points = [(r["step"], r[name]) for r in run["log"] if name in r]
                    axis.plot([x for x, _ in points], [y for _, y in points], label=title, linewidth=1)
                axis.grid(alpha=0.3)
                if column == 0:
                    axis.legend(fontsize="x-small")
            else:
                label = which
                for values in run["scores"].get(which, []):
                    axis.plot(run["moments"], values, color="tab:blue", alpha=0.7, marker=".")
                axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
    for row, (kind, _) in enumerate(rows):
        if kind == "score":
            lows, highs = zip(*(axis.get_ylim() for axis in axes[row]), strict=True)
            for axis in axes[row]:
                axis.set_ylim(min(lows), max(highs))
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=100)


def _draw_samples(axis, samples, modes):
    if samples.dim() == 2:
        draw_points(axis, samples, modes)
        return
    grid = make_grid(samples[:16], 4).permute(1, 2, 0).squeeze(2)
    axis.imshow(grid, cmap="gray" if grid.dim() == 2 else None, vmin=0, vmax=255)
    axis.set(xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set_visible(False)
