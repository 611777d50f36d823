"""Points of the plane."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fastgan.atomic_file import replacing
from fastgan.extras import require


def save_scatter(panels: Mapping[str, torch.Tensor], path: Path | str, modes: torch.Tensor | None = None) -> None:
    """panels: title -> points (N, 2), side by side on one scale, which grows with the points; modes (K, 2): the real
    ones, circled."""
    figure = require("matplotlib.figure").Figure(figsize=(4 * len(panels), 4.2), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for axis, (title, points) in zip(axes, panels.items(), strict=True):
        draw_points(axis, points, modes)
        axis.set_title(title)
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=110)


def _within(points):
    """How far 19 of 20 points lie from zero, in both directions: one that is far away does not shrink the others."""
    finite = points[points.isfinite().all(1)].abs()
    return finite.quantile(0.95, dim=0).tolist() if len(finite) else (0.0,)


def draw_points(axis: Any, points: torch.Tensor, modes: torch.Tensor | None = None) -> None:
    points = points.detach().cpu()
    if modes is not None:
        axis.scatter(*modes.cpu().T, s=160, facecolors="none", edgecolors="tab:orange", linewidths=1.2, zorder=3)
        reach = 1.35 * max(float(modes.abs().max()), *_within(points))
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
    axis.scatter(*points.T, s=3, alpha=0.3, color="tab:blue", linewidths=0)
    axis.set_aspect("equal")
    axis.set(xticks=[], yticks=[])
