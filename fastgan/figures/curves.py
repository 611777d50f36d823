"""How the two players fared."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastgan.atomic_file import replacing
from fastgan.extras import require

PANELS = {"losses": ("d_loss", "g_loss"), "mean logits": ("d_real", "d_fake")}
LABELS = {"d_loss": "discriminator", "g_loss": "generator", "d_real": "D(x)", "d_fake": "D(G(z))"}


def save_curves(rows: Sequence[Mapping[str, Any]], path: Path | str) -> None:
    """rows: the dicts of a metrics log, each with "step" -> a PNG with the losses and the critic's mean logits."""
    figure = require("matplotlib.figure").Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(len(PANELS), 1, sharex=True)
    for axis, (title, names) in zip(axes, PANELS.items(), strict=True):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if name in row]
            axis.plot([x for x, _ in points], [y for _, y in points], label=LABELS[name])
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
        axis.legend(loc="upper right")
    axes[-1].set_xlabel("step")
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=110)
