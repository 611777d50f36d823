"""FID of the averaged generator every so many steps."""

from typing import Any

import torch

from fastgan import randomness
from fastgan.metrics import Extractor, frechet_distance
from fastgan.models import sampling
from fastgan.monitor.observer import growing
from fastgan.training.callbacks.callback import Callback

FEWEST = 2  # samples that a covariance needs


class Evaluation(Callback):
    """Adds `fid` to the row of the log, and `fid_by`: the extractor and the numbers of images.

    The images come from the averaged generator. Real images and latents are drawn from the run's seed alone, the same
    ones each time, so that one FID compares with the next. A pair that grows is measured when it has grown up.
    Errors: ValueError at construction for fewer than two images.
    """

    def __init__(self, every: int, extractor: Extractor, data: Any, seed: int, count: int) -> None:
        order = torch.randperm(len(data), generator=randomness.generator(seed, "evaluation reals"))
        self.every, self.extractor, self.seed, self.count = every, extractor, seed, count
        self.data, self.chosen = data, order[:count]
        if len(self.chosen) < FEWEST or count < FEWEST:
            raise ValueError(f"evaluate_every needs at least {FEWEST} images; got {min(len(data), count)}")
        self.real: torch.Tensor | None = None

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        average = trainer.state.average
        if not trainer.is_due(self.every) or growing(average):
            return
        randomness.reseed(self.seed, "evaluation")  # for networks that draw random numbers
        z = sampling.latents(average, self.count, self.seed, "evaluation", device=trainer.device)
        condition = sampling.conditions(average, self.data, self.count, trainer.device)
        fake = sampling.sample(average, z, condition)
        if not fake.isfinite().all():  # the observations and the checkpoint report that
            return
        if self.real is None:
            real = (self.data.batch(indices)[0] for indices in self.chosen.split(sampling.BATCH))
            self.real = self.extractor.features(real).values
        row["fid"] = frechet_distance(self.real, self.extractor.features(fake.clamp(-1, 1)).values)
        row["fid_by"] = f"{self.extractor.identity} N = {len(self.chosen)} / {self.count}"
