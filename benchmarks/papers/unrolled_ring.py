"""T10, the unrolled GAN on the ring: a generator that looks K critic updates ahead.

    python -m benchmarks.papers.unrolled_ring [--seeds 0 1 2 3 4] [--processes 2] [--steps 8000]

Metz et al., 2017 (arXiv 1611.02163), the published notebook. Two to nineteen minutes a run.
"""

import copy
from dataclasses import replace

import torch
from torch import nn

from benchmarks.papers.table import Criterion, Table, column, main, mean_and_error, silent_trainer
from fastgan import data, losses, metrics
from fastgan.training import networks, unrolled_generator_loss
from fastgan.training.compare import COUNT, draw
from fastgan.training.recipe.presets import recipe as named_recipe
from fastgan.training.step.objective import Objective

CONFIGURATIONS = {"K = 0": 0, "K = 5": 5, "K = 10": 10}
MOMENTS = 10
TABLE = Table(
    name="unrolled_ring",
    id="T10",
    title="Unrolled GAN on the ring",
    source="Metz et al., 2017; poolio/unrolled_gan, notebook",
    label="reduced",
    protocol=(
        "The notebook's networks (MLPs 2 x 128 tanh, orthogonal weights of gain 1.4), z of 256, batch 512, Adam 1e-3 "
        "and 1e-4 with betas (0.5, 0.999), simultaneous updates, ring of 8 Gaussians (radius 1, sigma 0.01), 8000 of "
        "25,000 iterations. Ever: modes found at any of 10 moments. At a time: the mean over the moments."
    ),
    notes=(
        ("The notebook's ring counts its first mode twice. Ours does not."),
        ("The criterion is the exactness of the gradient. The numbers of modes have no bound."),
    ),
    published={
        "K = 0": "figure: jumps between modes (stacked MNIST, critic a fourth: 30.6 modes)",
        "K = 5": "figure: all modes (236)",
        "K = 10": "figure: all modes (327)",
    },
)


def run(configuration, seed, steps, device="cpu"):
    named, points = named_recipe("unrolled"), data.load("ring")
    recipe = replace(named.settings, unroll_steps=CONFIGURATIONS[configuration], ema_decay=0.0, seed=seed)
    pair = networks.build(networks.describe(points, named, recipe), recipe)
    found, at_a_time, pictures, quality = set(), [], [], []
    with silent_trainer(pair, recipe, points, device, steps) as trainer:
        for i in range(MOMENTS):
            trainer.fit(round(steps * (i + 1) / MOMENTS))
            samples = draw(trainer, COUNT, "mode coverage")
            distance, nearest = torch.cdist(samples, points.modes).min(1)
            hit = nearest[distance < 3 * points.sigma].unique().tolist()
            found |= set(hit)
            at_a_time.append(len(hit))
            quality.append(metrics.mode_coverage(samples, points.modes, points.sigma).high_quality)
            if seed == 0 and i % 3 == 0:
                pictures.append([[round(v, 3) for v in point] for point in samples[:400].tolist()])
    return {
        "modes": at_a_time[-1],
        "at_a_time": sum(at_a_time) / MOMENTS,
        "ever": len(found),
        "high_quality": quality[-1],
        "pictures": pictures,
    }


def gradient_errors(steps=5, seed=0):
    """(of the unrolled gradient, of the first-order copy), relative, from central differences in fp64."""
    torch.manual_seed(seed)
    critic = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1), nn.Flatten(0)).double()
    adam = torch.optim.Adam(critic.parameters(), 0.02, (0.5, 0.9), eps=1e-3)
    real, fake = torch.randn(8, 2).double(), (torch.randn(8, 2).double() + 0.5).requires_grad_()
    objective = Objective(losses.get("minimax"))

    def played(fake):
        """The generator's loss after real updates of a copy of the critic."""
        twin = copy.deepcopy(critic)
        optimizer = torch.optim.Adam(twin.parameters(), **adam.defaults)
        for _ in range(steps):
            optimizer.zero_grad()
            objective.discriminator(objective.critic(twin), real, fake.detach())[0].backward()
            optimizer.step()
        return -objective.discriminator(objective.critic(twin), real, fake)[0]

    loss, _ = unrolled_generator_loss(objective, critic, adam, fake, real, steps=steps)
    (unrolled,) = torch.autograd.grad(loss, fake)
    (copied,) = torch.autograd.grad(played(fake), fake)
    exact, h = torch.zeros_like(unrolled), 1e-6
    for i in range(fake.numel()):
        step = torch.zeros(fake.numel(), dtype=torch.float64)
        step[i] = h
        there, back = (played((fake + sign * step.view_as(fake)).detach()).item() for sign in (1, -1))
        exact.view(-1)[i] = (there - back) / (2 * h)
    return tuple(((g - exact).norm() / exact.norm()).item() for g in (unrolled, copied))


def criteria(rows):
    unrolled, copied = gradient_errors()
    ever = {name: mean_and_error(column(rows, name, "ever"))[0] for name in CONFIGURATIONS}
    return [
        Criterion("unrolled gradient = finite differences to 1e-4 (fp64)", f"off by {unrolled:.1e}", unrolled < 1e-4),
        Criterion("the first-order copy differs", f"by {copied:.2g} of the gradient", copied > 0.01),
        Criterion(
            "modes found at any time (no bound)",
            ", ".join(f"{name}: {value:.1f}" for name, value in ever.items()),
            True,
            judged=False,
        ),
    ]


def figure(rows):
    def draw(figure):
        figure.set_size_inches(9, 6.5)
        modes = data.load("ring").modes
        axes = figure.subplots(len(CONFIGURATIONS), 4)
        for line, name in zip(axes, CONFIGURATIONS, strict=True):
            row = next(r for r in rows if r["configuration"] == name and r["pictures"])
            for i, (axis, points) in enumerate(zip(line, row["pictures"], strict=True)):
                axis.scatter(*modes.T, s=60, facecolors="none", edgecolors="0.7")
                axis.scatter(*torch.tensor(points).T, s=3, alpha=0.5)
                step = round(row["steps"] * (3 * i + 1) / MOMENTS) if "steps" in row else 3 * i + 1
                axis.set(
                    xlim=(-1.6, 1.6),
                    ylim=(-1.6, 1.6),
                    aspect="equal",
                    xticks=[],
                    yticks=[],
                    title=f"{name}, step {step}",
                )

    return draw


if __name__ == "__main__":
    main(__doc__, TABLE, run, criteria, figure, CONFIGURATIONS, seeds=5, steps=8000)
