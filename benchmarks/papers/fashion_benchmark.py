"""T13, methods side by side on the embedded garments, from NS-GAN to SAGAN, and one network growing or not.

    python -m benchmarks.papers.fashion_benchmark [--seeds 0 1 2] [--processes 2] [--steps 600] [--device cuda]

No ranking is meant: networks are narrow and runs short. Half a minute (NS-GAN) to six (not grown) a run on one core.
"""

import re
from dataclasses import replace

import torch

from benchmarks.papers.strips import draw_strips, strip
from benchmarks.papers.table import Criterion, Table, column, main, silent_trainer
from fastgan import data, metrics
from fastgan.training import networks
from fastgan.training.compare import draw
from fastgan.training.recipe.presets import recipe as named_recipe

FAST = {"generator_lr": 1e-3, "discriminator_lr": 1e-3}
GROWING = {"generator_lr": 3e-3, "discriminator_lr": 3e-3}  # equalised learning rates bear it
METHODS = {  # recipe, its changed settings, options of the networks, times as many steps
    "NS-GAN": ("dcgan", FAST, {}, 1),
    "LSGAN": ("lsgan", {}, {}, 1),
    "WGAN-GP": ("wgan-gp", FAST, {"width": 8}, 1),
    "SN-hinge": ("garments", {}, {}, 1),
    "RaLSGAN": ("rals", FAST, {}, 1),
    "SAGAN": ("sagan", {"generator_lr": 1e-3, "discriminator_lr": 4e-3}, {"width": 16}, 2),
    "growing": ("progan", GROWING, {"width": 16}, 4),
    "growing's networks, not grown": ("progan", GROWING | {"progressive": ""}, {"width": 16}, 4),
}
WIDTH, IMAGES = 24, 10_000
TABLE = Table(
    name="fashion_benchmark",
    id="T13",
    title="Methods side by side on garments",
    source="none",
    label="own",
    protocol=(
        "The embedded garments of Fashion-MNIST at 28 x 28, batch 32, 600 generator steps of each named recipe (1200 "
        "for SAGAN, 2400 for the growing pair). Narrow networks: 24 channels, 8 for WGAN-GP, 16 for SAGAN and the "
        "growing pair. Rates of 1e-3 for recipes made for far longer runs (SAGAN 1e-3 and 4e-3, the growing pair "
        "3e-3). FID, KID, precision and recall use fastgan's small classifier on 10,000 real and 10,000 generated "
        "images of the averaged generator."
    ),
    notes=(
        ("With 8 channels SAGAN's recall was 0.01 to 0.37 at every rate tried."),
        ("Growing reaches 28 pixels after two fifths of the run and has faded them in after 8/15."),
        ("A step of WGAN-GP has five discriminator updates."),
    ),
)


def run(configuration, seed, steps, device="cpu"):
    name, changes, options, longer = METHODS[configuration]
    steps = steps * longer
    images, named, extractor = data.load("fashion"), named_recipe(name), metrics.fashion_cnn(device=device)
    recipe = replace(named.settings, batch_size=32, ema_decay=0.99, seed=seed, **changes)
    if recipe.progressive:
        levels = 3  # of 28 pixels: 7, 14, 28
        recipe = replace(
            recipe, progressive=f"ProgressiveSchedule(phase_images={steps * 32 * 2 // (3 * (2 * levels - 1))})"
        )
    real = metrics.Samples.of(images.batch(torch.arange(IMAGES))[0], extractor)
    described = networks.describe(images, named, recipe) | {"width": WIDTH} | options
    with silent_trainer(networks.build(described, recipe), recipe, images, device, steps) as trainer:
        untrained = scores(real, trainer, extractor, ("fid",))["fid"]
        trainer.fit(steps)
        found = scores(real, trainer, extractor, metrics.DEFAULT)
        pictures = strip(draw(trainer, 8))
    return {
        "fid": found["fid"],
        "kid": found["kid"],
        "precision": found["precision"],
        "recall": found["recall"],
        "untrained_fid": untrained,
        "extractor": extractor.identity,
        "strip": pictures,
    }


def scores(real, trainer, extractor, names):
    fake = metrics.Samples.of(draw(trainer, IMAGES, "metrics").clamp(-1, 1), extractor)
    return {re.match("[A-Za-z]+", m.name)[0].lower(): m.value for m in metrics.measure(real, fake, names)}


def criteria(rows):
    share = max(row["fid"] / row["untrained_fid"] for row in rows)
    recall = min(row["recall"] for row in rows)
    return [
        Criterion(
            "FID(fashion-cnn) below a third of the untrained generator's, every method and seed",
            f"at most {share:.2f} of it",
            share < 1 / 3,
        ),
        Criterion("recall above 0.2, every method and seed", f"at least {recall:.2f}", recall > 0.2),
    ]


def figure(rows):
    def draw(figure):
        axis = draw_strips(figure, {name: column(rows, name, "strip")[0] for name in METHODS})
        for i, name in enumerate(METHODS):
            values = column(rows, name, "fid")
            axis.scatter(values, [i] * len(values), s=20)
        axis.set(
            yticks=range(len(METHODS)), title="FID(fashion-cnn), a dot for each seed", ylim=(len(METHODS) - 0.5, -0.5)
        )
        axis.set_yticklabels(METHODS)
        axis.set_xlim(0, None)
        axis.grid(alpha=0.3)

    return draw


if __name__ == "__main__":
    metrics.fashion_cnn()  # trained and cached once, before the processes need it
    main(__doc__, TABLE, run, criteria, figure, METHODS, seeds=3, steps=600)
