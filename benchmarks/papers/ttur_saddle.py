"""T2, two time-scales on a saddle: one of two equal rates is either unstable or slow, unequal ones are neither.

    python -m benchmarks.papers.ttur_saddle [--seeds 0 1 ...]

min over x, max over y of (1 + x^2)(100 - y^2), with noise on both gradients, as in the published code of Heusel et
al., 2017 (bioinf-jku/TTUR, Toy_Data_Example). The optimisers are a Recipe's. A run takes seconds.
"""

import math
import statistics

import torch
from torch import nn

from benchmarks.papers.table import Criterion, Table, column, main
from fastgan.training import Recipe
from fastgan.training.step.optimizers import make_optimizers

RATES = {"fast": (1e-2, 1e-2), "slow": (1e-3, 1e-3), "TTUR-x": (1e-4, 1e-2), "TTUR-y": (1e-2, 1e-4)}  # of x and of y
TABLE = Table(
    name="ttur_saddle",
    id="T2",
    title="Two time-scales on a saddle",
    source="Heusel et al., 2017; bioinf-jku/TTUR, Toy_Data_Example",
    label="exact",
    protocol=(
        "Objective (1 + x^2)(100 - y^2), start (0.5, -0.4), 5000 iterations, x first, noise of standard deviation 1 "
        "on each gradient. Rates of x and y: fast 0.01 and 0.01, slow 0.001 and 0.001, TTUR-x 0.0001 and 0.01, "
        "TTUR-y 0.01 and 0.0001. Measured: the distance from the saddle, averaged over the last 1000 iterations. "
        "Published: the last iteration of one run."
    ),
    published={"fast": "0.794", "slow": "0.0102", "TTUR-x": "0.0958", "TTUR-y": "0.143"},
)


class Player(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value, dtype=torch.float64))


def run(configuration, seed, steps=5000, device="cpu"):
    x, y = Player(0.5), Player(-0.4)
    rates = dict(zip(("generator_lr", "discriminator_lr"), RATES[configuration], strict=True))
    descend_x, descend_y = make_optimizers(x, y, Recipe(optimizer="sgd", **rates))
    noise = torch.randn(steps, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    path = []
    for noise_x, noise_y in noise:
        a, b = x.value.item(), y.value.item()
        x.value.grad = torch.tensor(2 * a * (100 - b * b) + noise_x, dtype=torch.float64)
        descend_x.step()
        a = x.value.item()
        y.value.grad = torch.tensor(2 * b * (1 + a * a) - noise_y, dtype=torch.float64)  # y ascends
        descend_y.step()
        path.append(math.hypot(a, y.value.item()))
    shown = path[:: max(1, steps // 500)] if seed == 0 else []
    return {"distance": statistics.fmean(path[-steps // 5 :]), "last": path[-1], "path": shown}


def criteria(rows):
    median = {name: statistics.median(column(rows, name, "distance")) for name in RATES}
    fast, slow, ttur = median["fast"], median["slow"], median["TTUR-x"]
    return [
        Criterion("median of fast > 0.2", f"{fast:.3f}", fast > 0.2),
        Criterion("median of TTUR-x < 0.1 and at most a fourth of fast", f"{ttur:.3f}", ttur < min(0.1, fast / 4)),
        Criterion("median of slow < 0.03", f"{slow:.4f}", slow < 0.03),
    ]


def figure(rows):
    def draw(figure):
        axes = figure.subplots(1, 2)
        for name in RATES:
            path = next(row["path"] for row in rows if row["configuration"] == name and row["path"])
            axes[0].plot([10 * i for i in range(len(path))], path, label=name, linewidth=0.9)
        axes[0].set(title="distance from the saddle, seed 0", xlabel="iteration", yscale="log")
        axes[0].legend(fontsize=8)
        axes[1].boxplot([column(rows, name, "distance") for name in RATES], tick_labels=list(RATES))
        axes[1].set(title="mean of the last 1000, all seeds", yscale="log")

    return draw


if __name__ == "__main__":
    main(__doc__, TABLE, run, criteria, figure, RATES, seeds=20)
