"""O1, tricks without a table of their own, on so few garments that a critic learns them by heart.

    python -m benchmarks.papers.few_garments [--seeds 0 1 2] [--processes 2] [--steps 2400]

Differentiable augmentation, its adaptive probability, LeCam's regularisation and feature matching, each added to the
recipe `garments`; and, for all of them, the averaged weights beside the last ones. About two minutes a run on one core.
"""

from dataclasses import replace

import torch

from benchmarks.papers.strips import draw_strips, strip
from benchmarks.papers.table import Criterion, Table, column, main, mean_and_error, silent_trainer
from fastgan import data, metrics
from fastgan.training import networks
from fastgan.training.compare import draw
from fastgan.training.recipes import recipe as named_recipe

POLICY = "color,translation,cutout"
TRICKS = {
    "nothing added": {},
    "DiffAugment": {"augment": POLICY},
    "ADA": {"augment": POLICY, "augment_target": 0.6},
    "LeCam": {"penalties": ("LeCam(weight=0.1)",)},
    "feature matching": {"generator_terms": ("FeatureMatching(weight=1.0)",)},
}
GARMENTS, WIDTH, IMAGES, MOMENTS = 300, 24, 10_000, 4
TABLE = Table(
    name="few_garments",
    id="O1",
    title="Few images",
    source="Zhao et al., 2020 (DiffAugment); Karras et al., 2020 (ADA); Tseng et al., 2021; Salimans et al., 2016",
    label="own",
    protocol=(
        "The first 300 of the embedded garments at 28 x 28 and nothing else to learn from; the recipe `garments`"
        " (hinge, spectral norm in both, 24 channels, batch 32) and one change, 2400 steps: 256 times each garment."
        " FID(fashion-cnn) of 10,000 samples against all 10,000 garments, the unseen ones included; that of the 300"
        " themselves is the control row. `fid` is the averaged generator's (decay 0.99), `fid last weights` that of the"
        " weights as they are."
    ),
)
CONTROL = "control: the 300 garments"


def run(configuration, seed, steps, device="cpu"):
    garments, extractor = data.load("fashion"), metrics.fashion_cnn(device=device)
    real = metrics.Samples.of(garments.batch(torch.arange(IMAGES))[0], extractor)
    few = data.TensorData(garments.samples[:GARMENTS], garments.labels[:GARMENTS], garments.classes)

    def fid(images):
        (score,) = metrics.measure(real, metrics.Samples.of(images, extractor), ("fid",))
        return score.value

    if configuration == CONTROL:
        return {"fid": fid(few.batch(torch.arange(GARMENTS))[0].repeat(IMAGES // GARMENTS + 1, 1, 1, 1)[:IMAGES])}
    named = named_recipe("garments")
    recipe = replace(named.settings, ema_decay=0.99, seed=seed, **TRICKS[configuration])
    described = networks.describe(few, named, recipe) | {"width": WIDTH}
    found = []
    with silent_trainer(networks.build(described, recipe), recipe, few, device, steps) as trainer:
        for i in range(MOMENTS):
            trainer.fit(round(steps * (i + 1) / MOMENTS))
            found.append([fid(draw(trainer, IMAGES, "metrics", averaged)) for averaged in (True, False)])
        pictures = strip(draw(trainer, 8))
    averaged, last = zip(*found, strict=True)
    return {
        "fid": averaged[-1],
        "fid_last_weights": last[-1],
        "best_fid": min(averaged),
        "over_time": list(averaged),
        "extractor": extractor.identity,
        "strip": pictures,
    }


def criteria(rows):
    mean = {name: mean_and_error(column(rows, name, "fid"))[0] for name in TRICKS}
    better = [row["fid"] < row["fid_last_weights"] for row in rows if row["configuration"] in TRICKS]
    return [
        Criterion(
            f"mean FID with {name} below that with nothing added",
            f"{mean[name]:.0f} against {mean['nothing added']:.0f}",
            mean[name] < mean["nothing added"],
        )
        for name in ("DiffAugment", "ADA")
    ] + [
        Criterion(
            "averaged weights have the lower FID in nine of ten runs",
            f"{sum(better)} of {len(better)}",
            sum(better) >= 0.9 * len(better),
        ),
        Criterion(
            "LeCam, feature matching (no bound)",
            f"{mean['LeCam']:.0f}, {mean['feature matching']:.0f}",
            True,
            judged=False,
        ),
    ]


def figure(rows):
    def draw(figure):
        axis = draw_strips(figure, {name: column(rows, name, "strip")[0] for name in TRICKS})
        for colour, name in enumerate(TRICKS):
            for i, row in enumerate(r for r in rows if r["configuration"] == name):
                at = [row["steps"] * (k + 1) / len(row["over_time"]) for k in range(len(row["over_time"]))]
                axis.plot(at, row["over_time"], color=f"C{colour}", marker=".", alpha=0.7, label=None if i else name)
        (control,) = column(rows, CONTROL, "fid")[:1]
        axis.axhline(control, color="0.6", linestyle=":", label="the 300 garments themselves")
        axis.set(title="FID(fashion-cnn), a line for each seed", xlabel="step")
        axis.set_ylim(0, None)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)

    return draw


if __name__ == "__main__":
    metrics.fashion_cnn()  # trained and kept here once, before the processes ask for it
    main(__doc__, TABLE, run, criteria, figure, (CONTROL, *TRICKS), seeds=3, steps=2400)
