"""T12, a loss that means something: the critic's estimate of WGAN-GP follows the Wasserstein distance.

    python -m benchmarks.papers.wasserstein_estimate [--seeds 0 1 2 3 4] [--processes 2] [--steps 2000]

Arjovsky et al., 2017, figure 3, with the penalty of Gulrajani et al., 2017. The critic's loss of a non-saturating GAN
on the same data stands beside it. A minute and a half a run.
"""

from dataclasses import replace

import torch

from benchmarks.papers.table import Criterion, Table, column, main, silent_trainer
from fastgan import data, losses, metrics
from fastgan.training import networks
from fastgan.training.compare import draw
from fastgan.training.recipe.presets import recipe as named_recipe

TABLE = Table(
    name="wasserstein_estimate",
    id="T12",
    title="A loss that means something",
    source="Arjovsky et al., 2017, figure 3; Gulrajani et al., 2017",
    label="reduced",
    protocol=(
        "8 Gaussians of the WGAN-GP toys, recipe wgan-gp-toy, networks of 128 units, Adam 5e-4 for the discriminator "
        "and 1e-4 for the generator, penalty weight 1. Every 50 of 2000 generator steps: the estimate E D(x) - E "
        "D(G(z)) and the exact W1, on 1000 points each. For comparison: the discriminator's loss of a non-saturating "
        "GAN with the same networks. Measured: Spearman's rank correlation over the run."
    ),
    notes=(
        (
            "With the published toys' rates (both 1e-4, weight 0.1) these seeds missed the bound: 0.50 to 0.84. With "
            "weight 1 and WGAN's warm-up (100 discriminator updates in the first 25 steps) they gave 0.60 to 0.96. "
            "The paper's figure needs a discriminator trained to the end; theirs is behind the generator for some "
            "500 steps, in which the estimate rises while the distance falls."
        ),
        (
            "The discriminator's rate was chosen on seeds 101 to 103. There, weight 1 gave 0.93 and 0.96. Weight 0.1 "
            "gave 0.90, but the first estimates are four times the distance. Weight 10 gave 0.42, with the generator "
            "at distances of 1 to 2."
        ),
        ("The non-saturating discriminator's loss correlates as well."),
    ),
    published={"WGAN-GP": "correlation shown as a figure", "NS-GAN": "no correlation, as a figure (other data)"},
)
POINTS, EVERY, SETTLED = 1000, 50, 600
RECIPES = {
    "WGAN-GP": {"penalties": ("WGANGP(weight=1.0)",), "discriminator_lr": 5e-4},
    "NS-GAN": {"loss": "non_saturating", "penalties": (), "discriminator_steps": 1},
}


def run(configuration, seed, steps, device="cpu"):
    points = data.load("ring_wgan_gp")
    named = named_recipe("wgan-gp-toy")
    recipe = replace(named.settings, **RECIPES[configuration], ema_decay=0.0, seed=seed)
    pair = networks.build(networks.describe(points, named, recipe, width=128), recipe)
    source = torch.Generator().manual_seed(seed)
    distances, estimates = [], []
    with silent_trainer(pair, recipe, points, device, steps) as trainer:
        for moment in range(EVERY, steps + 1, EVERY):
            trainer.fit(moment)
            real = points.batch(torch.randint(len(points), (POINTS,), generator=source))[0]
            fake = draw(trainer, POINTS)
            with torch.no_grad():
                logits = [trainer.state.discriminator(x.to(trainer.device)) for x in (real, fake)]
            if configuration == "WGAN-GP":
                estimates.append((logits[0].mean() - logits[1].mean()).item())
            else:
                estimates.append(losses.get(recipe.loss).discriminator(*logits).item())
            distances.append(metrics.wasserstein(real, fake))
    return {"spearman": spearman(estimates, distances), "estimates": estimates, "distances": distances}


def spearman(a, b):
    """The correlation of the ranks."""
    ranks = [torch.tensor(v, dtype=torch.float64).argsort().argsort().double() for v in (a, b)]
    return torch.corrcoef(torch.stack(ranks))[0, 1].item()


def criteria(rows):
    wgan, ns = column(rows, "WGAN-GP", "spearman"), column(rows, "NS-GAN", "spearman")
    settled = [
        spearman(row["estimates"][SETTLED // EVERY :], row["distances"][SETTLED // EVERY :])
        for row in rows
        if row["configuration"] == "WGAN-GP"
    ]
    return [
        Criterion("Spearman of WGAN-GP's estimate and W1 at least 0.8 in every seed", _list(wgan), min(wgan) >= 0.8),
        Criterion(f"the same after step {SETTLED} (no bound)", _list(settled), True, judged=False),
        Criterion("the same of NS-GAN's critic loss, for comparison (no bound)", _list(ns), True, judged=False),
    ]


def _list(values):
    return ", ".join(f"{v:.2f}" for v in values)


def figure(rows):
    def draw(figure):
        for axis, name in zip(figure.subplots(1, 2), RECIPES, strict=True):
            for row in (r for r in rows if r["configuration"] == name):
                axis.plot(row["distances"], row["estimates"], ".", alpha=0.6)
            label = "E D(x) - E D(G(z))" if name == "WGAN-GP" else "critic's loss"
            axis.set(title=f"{name}, a colour for each seed", xlabel="exact W1", ylabel=label)

    return draw


if __name__ == "__main__":
    main(__doc__, TABLE, run, criteria, figure, RECIPES, seeds=5, steps=2000)
