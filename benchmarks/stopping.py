"""Does `--stop-when plateau` keep a good state? Small runs, judged by an extractor that the rule does not see.

    python -m benchmarks.stopping [--data garments digits] [--recipes garments lsgan rsgan r1 wgan-gp] [--steps 6000]

A run of each recipe on each data set goes on to its last step. At each observation, FID of the averaged generator is
measured by a classifier of these images (N = 1000 generated samples against 1000 real ones), and the rule is applied to
the log as a run would apply it. A line of benchmarks/results/stopping.csv:

    stopped    the step at which the rule ends the run; empty if it goes on to the last step
    kept       the step of the state in best/ at that moment, and fid_kept its FID
    fid_best   the lowest FID of all observations of the run, those after `stopped` included, of step best
    ratio      fid_kept / fid_best: 1.1 is the criterion
    ratio_pixels   the same if the state were chosen by the same kernel on raw pixels, averaged to 8 x 8, of the
                   latents that the rule looks at

Learning rates differ from the papers' when a small run does not learn with the paper's rates; see RECIPES.
"""

import argparse
import csv
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from fastgan import Trainer, data, metrics, models, monitor
from fastgan.models import sampling
from fastgan.monitor.stop import Stop
from fastgan.training.callbacks.pictures import Pictures
from fastgan.training.recipe import presets
from fastgan.training.run.metrics_log import read_metrics

RESULTS = Path(__file__).parent / "results" / "stopping.csv"
SIDE, WIDTH, Z_DIM, BATCH, SAMPLES = 16, 16, 32, 32, 1000
RECIPES = {  # options of the DCGAN, changes of the named recipe
    "garments": ({}, {}),
    "lsgan": ({}, {}),
    "rsgan": ({}, {}),
    "r1": ({"norm": "none"}, {"penalties": ("R1(gamma=0.1)",), "generator_lr": 1e-3, "discriminator_lr": 1e-3}),
    "wgan-gp": ({"norm": "none"}, {"discriminator_steps": 2, "generator_lr": 5e-4, "discriminator_lr": 5e-4}),
}
FIELDS = ("data", "recipe", "steps", "every", "patience", "stopped", "kept", "fid_kept", "best", "fid_best", "ratio")
FIELDS += ("ratio_pixels", "torch")


def digits():
    """scikit-learn's digits, enlarged to 16 pixels, and a classifier of them, trained here, as the extractor."""
    images, labels = data.digits()
    large = interpolate(images.unsqueeze(1), size=(SIDE, SIDE), mode="bicubic").clamp(-1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 64), nn.ReLU()),
        )
        head = nn.Linear(64, 10)
        optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 2e-3)
        for _ in range(15):
            for indices in torch.randperm(len(large)).split(64):
                optimizer.zero_grad()
                cross_entropy(head(body(large[indices])), labels[indices]).backward()
                optimizer.step()
    return data.TensorData(large, labels), metrics.Extractor(body, "digits-cnn")


DATA = {"garments": lambda: (data.fashion_mnist(SIDE), metrics.fashion_cnn()), "digits": digits}


def run(data_name, recipe_name, steps, every, seed=0):
    samples, extractor = DATA[data_name]()
    options, changes = RECIPES[recipe_name]
    recipe = replace(presets.recipe(recipe_name).settings, batch_size=BATCH, seed=seed, **changes)
    torch.manual_seed(seed)
    if recipe.spectral_norm != "none":
        options = {**options, "spectral_norm": recipe.spectral_norm}
    pair = models.create("dcgan", channels=1, resolution=SIDE, width=WIDTH, z_dim=Z_DIM, **options)
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(1))
    real = samples.batch(order[:SAMPLES])[0]
    features, fields = extractor.features(real).values, monitor.pooled(real).flatten(1)
    with tempfile.TemporaryDirectory() as folder:
        intervals = {"report": False, "log_every": every, "sample_every": every, "checkpoint_every": steps}
        trainer = Trainer(*pair, recipe, samples, run_dir=Path(folder) / "run", progress=False, **intervals)
        trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, Pictures)]  # longer than these steps
        fids, pixels = {}, {}
        for step in range(every, steps + 1, every):
            trainer.fit(step)
            z = sampling.latents(trainer.state.average, SAMPLES, seed, "stopping")
            fake = sampling.sample(trainer.state.average, z).clamp(-1, 1)
            fids[step] = metrics.frechet_distance(features, extractor.features(fake).values)
            z = sampling.latents(trainer.state.average, SAMPLES, seed, "watch latents")
            fake = sampling.sample(trainer.state.average, z).clamp(-1, 1)
            pixels[step] = metrics.kernel_distance(fields, monitor.pooled(fake).flatten(1), subset_size=None).mean
        rows = read_metrics(trainer.folder.metrics)
    stop = Stop(recipe, samples, *pair)
    ends = [i for i in range(1, len(rows) + 1) if stop.ended(rows[:i]) is not None]
    seen = rows[: ends[0]] if ends else rows
    kept, best = monitor.best(seen)["step"], min(fids, key=fids.get)
    by_pixels = min((row["step"] for row in seen), key=pixels.get)
    return {
        "data": data_name,
        "recipe": recipe_name,
        "steps": steps,
        "every": every,
        "patience": stop.patience,
        "stopped": seen[-1]["step"] if ends else "",
        "kept": kept,
        "fid_kept": round(fids[kept], 3),
        "best": best,
        "fid_best": round(fids[best], 3),
        "ratio": round(fids[kept] / fids[best], 3),
        "ratio_pixels": round(fids[by_pixels] / fids[best], 3),
        "torch": torch.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=DATA)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    flags = parser.parse_args()
    torch.set_num_threads(1)
    new = not flags.out.exists()
    with open(flags.out, "a", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if new:
            writer.writeheader()
        for recipe in flags.recipes:
            for name in flags.data:
                row = run(name, recipe, flags.steps, flags.every)
                writer.writerow(row)
                file.flush()
                print(row, flush=True)


if __name__ == "__main__":
    main()
