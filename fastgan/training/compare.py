"""Recipes side by side: the same data, budget and seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fastgan import metrics
from fastgan.data import DataSet
from fastgan.models import sampling
from fastgan.training.build import build
from fastgan.training.recipe.presets import NamedRecipe
from fastgan.training.run.metrics_log import read_metrics
from fastgan.training.trainer import Trainer

COUNT = 2500  # samples that modes are counted over, as PacGAN's


@dataclass
class Outcome:
    """What became of a recipe. Numbers are lists with a value for each seed; pictures are of the first seed."""

    recipe: str
    parameters: tuple[int, int] = (0, 0)  # generator, discriminator
    scores: dict[str, list[float]] = field(default_factory=dict)  # of the last step: name -> a value for each seed
    moments: list[int] = field(default_factory=list)  # steps at which it was looked at
    samples: list[torch.Tensor] = field(default_factory=list)  # at each moment, of the same latents
    over_time: dict[str, list[list[float]]] = field(default_factory=dict)  # name -> for each seed, at each moment
    log: list[dict] = field(default_factory=list)  # rows of metrics.jsonl

    def picture(self) -> dict[str, Any]:
        """What fastgan.figures.save_comparison takes."""
        return {
            "title": self.recipe,
            "moments": self.moments,
            "samples": self.samples,
            "log": self.log,
            "scores": self.over_time,
        }

    def summary(self) -> dict[str, tuple[float, float]]:
        """name -> (mean, standard error over the seeds; NaN for one)"""
        return {name: _mean_and_error(values) for name, values in self.scores.items()}


def compare(
    recipes: Mapping[str, NamedRecipe],
    data: DataSet,
    *,
    steps: int,
    seeds: int | Sequence[int] = 1,
    run_dir: Path | str,
    moments: int = 5,
    observe: Callable[[Trainer], Mapping[str, float]] | None = None,
    **options: Any,
) -> list[Outcome]:
    """Train each recipe from each seed for the same number of steps; -> a list of Outcomes.

    recipes: name -> NamedRecipe. seeds: how many, from 0 on; or the seeds themselves.
    run_dir: each run is kept in run_dir/NAME/seed_K, and goes on where it was stopped.
    observe(trainer) -> name -> number: at each moment; by default `observe_modes` where the data know their modes.
    options: of training.build, with settings={field: value} that replace the recipes' own.
    """
    settings = options.pop("settings", {})
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    observe = observe or (observe_modes if getattr(data, "modes", None) is not None else lambda trainer: {})
    at = [round(steps * (i + 1) / moments) for i in range(moments)]
    options.setdefault("report", False)  # of many runs the figure side by side is enough
    outcomes = []
    for name, named in recipes.items():
        outcome = Outcome(name, moments=at)
        for seed in numbers:
            folder = Path(run_dir) / name / f"seed_{seed}"
            of_seed = {**settings, "seed": seed}
            trainer = build(named, data, settings=of_seed, run_dir=folder, resume="auto", **options)
            observed = []
            for moment in at:
                if trainer.state.step <= moment:
                    trainer.fit(moment)
                observed.append(observe(trainer))
                if seed == numbers[0]:
                    outcome.samples.append(draw(trainer, 1000 if len(data.shape) == 1 else 16))
            for key, value in observed[-1].items():
                outcome.scores.setdefault(key, []).append(value)
                outcome.over_time.setdefault(key, []).append([values[key] for values in observed])
            if seed == numbers[0]:
                outcome.log = read_metrics(trainer.folder.metrics)
                players = trainer.state.generator, trainer.state.discriminator
                first, second = (sum(p.numel() for p in network.parameters()) for network in players)
                outcome.parameters = first, second
        outcomes.append(outcome)
    return outcomes


def draw(trainer: Trainer, count: int, purpose: str = "comparison", averaged: bool = True) -> torch.Tensor:
    """Samples of the averaged generator (or of the last weights), always from the same latents."""
    network = trainer.state.average if averaged else trainer.state.generator
    z = sampling.latents(network, count, trainer.recipe.seed, purpose, device=trainer.device)
    return sampling.sample(network, z, sampling.conditions(network, trainer.data, count, trainer.device)).cpu()


def observe_modes(trainer: Trainer) -> dict[str, float]:
    """Modes with a sample of high quality, the share of such samples, and the reverse KL of their modes (PacGAN)."""
    data: Any = trainer.data  # of a toy: `modes` and `sigma`
    coverage = metrics.mode_coverage(draw(trainer, COUNT, "mode coverage"), data.modes, data.sigma)
    return {
        "modes": float(coverage.modes),
        "high quality": coverage.high_quality,
        "reverse KL": coverage.reverse_kl,
    }


def _mean_and_error(values):
    values = torch.tensor(values, dtype=torch.float64)
    error = values.std() / len(values) ** 0.5 if len(values) > 1 else torch.tensor(float("nan"))
    return values.mean().item(), error.item()
