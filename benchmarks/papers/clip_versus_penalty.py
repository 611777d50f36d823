"""T3, weight clipping kills or explodes a deep critic's gradients, the gradient penalty does not.

    python -m benchmarks.papers.clip_versus_penalty [--seeds 0 1 2] [--processes 2] [--steps 300]

Gulrajani et al., 2017, figure 1b. Half a minute a run.
"""

from dataclasses import replace

import torch
from torch import nn

from benchmarks.papers.table import Criterion, Table, column, main, silent_trainer
from fastgan import data, losses
from fastgan.models import create
from fastgan.randomness import global_seed
from fastgan.training.compare import draw
from fastgan.training.recipe.presets import recipe as named_recipe

CONFIGURATIONS = {"clip 0.1": 0.1, "clip 0.01": 0.01, "clip 0.001": 0.001, "penalty 10": None}
TABLE = Table(
    name="clip_versus_penalty",
    id="T3",
    title="Weight clipping against the gradient penalty",
    source="Gulrajani et al., 2017, figure 1b",
    label="reduced",
    protocol=(
        "Swiss roll. Both networks have 12 linear layers of width 128 with ReLU (the paper does not give its width). "
        "300 generator steps of 5 discriminator steps. Recipes: wgan (RMSprop 5e-5, clipping) and wgan-gp-toy (Adam "
        "1e-4) with penalty weight 10. Measured on a batch of 256 after training: the norm of the loss gradient with "
        "respect to each layer's output, and the slope of its logarithm from the last layer to the first."
    ),
    notes=(
        (
            "The penalty weight was changed to the paper's 10 after these seeds had missed the bound with the "
            "published toys' 0.1 (0.081, 0.070, 0.061 decades a layer)."
        ),
    ),
    published={
        "clip 0.1": "grows exponentially (figure)",
        "clip 0.01": "falls exponentially (figure)",
        "clip 0.001": "falls exponentially (figure)",
        "penalty 10": "flat (figure)",
    },
)
BOUND = 0.99  # of c: a weight beyond that lies at the bound


def run(configuration, seed, steps, device="cpu"):
    clip, points = CONFIGURATIONS[configuration], data.load("swiss_roll")
    named = named_recipe("wgan" if clip else "wgan-gp-toy")
    recipe = replace(named.settings, ema_decay=0.0, batch_size=256, seed=seed)
    recipe = replace(recipe, penalties=(f"WeightClip({clip})" if clip else "WGANGP(weight=10.0)",))
    with global_seed(seed, "initial weights"):
        pair = create("mlp", features=2, width=128, depth=11, z_dim=2)
    with silent_trainer(pair, recipe, points, device, steps) as trainer:
        trainer.fit(steps)
        critic = trainer.state.discriminator
        real, fake = points.batch(torch.arange(256))[0], draw(trainer, 256)
    weights = torch.cat([m.weight.detach().flatten() for m in critic.modules() if isinstance(m, nn.Linear)]).cpu()
    norms = gradient_norms(critic.cpu(), losses.get("wasserstein"), real, fake)
    return {
        "decades_per_layer": slope(norms),
        "share_at_the_bound": (weights.abs() >= BOUND * clip).float().mean().item() if clip else 0.0,
        "gradient_norms": norms,
        "histogram": histogram(weights) if seed == 0 else [],
    }


def gradient_norms(critic, loss, real, fake):
    """Of the loss with respect to each hidden linear layer's output, in fp64, from the last layer back to the first."""
    critic, outputs = critic.double(), []
    layers = [m for m in critic.modules() if isinstance(m, nn.Linear)][:-1]
    hooks = [layer.register_forward_hook(lambda _m, _i, output: outputs.append(output)) for layer in layers]
    logits = critic(torch.cat([real, fake]).double())
    gradients = torch.autograd.grad(loss.discriminator(*logits.chunk(2)), outputs)
    for hook in hooks:
        hook.remove()
    return [g.norm().item() for g in reversed(gradients)]


def slope(norms):
    """Of log10, by least squares."""
    y = torch.tensor(norms, dtype=torch.float64).clamp_min(1e-300).log10()
    x = torch.arange(len(y), dtype=torch.float64)
    return ((x - x.mean()) @ (y - y.mean()) / (x - x.mean()).square().sum()).item()


def histogram(weights):
    limit = weights.abs().max().item()
    return [limit, (torch.histc(weights, 41, -limit, limit) / len(weights)).tolist()]


def criteria(rows):
    slopes = {name: column(rows, name, "decades_per_layer") for name in CONFIGURATIONS}
    shares = column(rows, "clip 0.01", "share_at_the_bound") + column(rows, "clip 0.001", "share_at_the_bound")
    return [
        Criterion("decades per layer, clip 0.1: above 0.1", _list(slopes["clip 0.1"]), min(slopes["clip 0.1"]) > 0.1),
        Criterion(
            "decades per layer, clip 0.01: below -0.5", _list(slopes["clip 0.01"]), max(slopes["clip 0.01"]) < -0.5
        ),
        Criterion(
            "decades per layer, clip 0.001: below -1", _list(slopes["clip 0.001"]), max(slopes["clip 0.001"]) < -1
        ),
        Criterion(
            "decades per layer, penalty: within 0.05 of 0",
            _list(slopes["penalty 10"]),
            max(map(abs, slopes["penalty 10"])) <= 0.05,
        ),
        Criterion("share of weights at the bound, clip 0.01 and 0.001: above 0.9", _list(shares), min(shares) > 0.9),
    ]


def _list(values):
    return ", ".join(f"{v:.3f}" for v in values)


def figure(rows):
    def draw(figure):
        gradients, weights = figure.subplots(1, 2)
        for colour, name in enumerate(CONFIGURATIONS):
            for i, row in enumerate(r for r in rows if r["configuration"] == name):
                label = name if i == 0 else None
                gradients.plot(row["gradient_norms"], color=f"C{colour}", marker=".", alpha=0.7, label=label)
                if row["histogram"] and name != "clip 0.001":
                    limit, shares = row["histogram"]
                    at = torch.linspace(-limit, limit, len(shares)).tolist()
                    weights.plot(at, shares, color=f"C{colour}", label=name)
        gradients.set(
            yscale="log", xlabel="layers from the critic's last back to its first", title="norm of the loss' gradient"
        )
        gradients.legend(fontsize=8)
        weights.set(yscale="log", xlabel="weight", title="share of the critic's weights, seed 0", xlim=(-0.3, 0.3))
        weights.legend(fontsize=8)

    return draw


if __name__ == "__main__":
    main(__doc__, TABLE, run, criteria, figure, CONFIGURATIONS, seeds=3, steps=300)
