"""The perturbed duality gap of a run, measured beside it for `stop_when="gap"`."""

import statistics

import torch

from fastgan import losses, metrics
from fastgan.training import sampling

STEPS, EVALUATION_BATCHES, SEEDS = 100, 20, 3


class GapWatch:
    """state -> {"watch_duality_gap", "watch_duality_gap_noise"}: the mean of three measurements and its error.

    Each trains copies of both networks alone for 100 updates: an observation costs 600 updates. Always the same seeds,
    so that two moments differ by the networks alone.
    """

    def __init__(self, recipe, data, state):
        generator = state.generator
        if getattr(generator, "classes", None) or sampling.takes_source(generator):
            raise ValueError('stop_when "gap" needs a generator without labels or sources; "plateau" does not')
        if recipe.pack > 1 or recipe.progressive:
            raise ValueError('stop_when "gap" needs a pair that neither packs nor grows; "plateau" does not')
        if any(not callable(term) for term in recipe.penalties):
            raise ValueError('stop_when "gap" cannot keep constraints like WeightClip on its copies: use "plateau"')
        self.recipe, self.data = recipe, data
        self.device = next(generator.parameters()).device

    def __call__(self, state):
        gaps = [self._measure(state, seed) for seed in range(SEEDS)]
        noise = statistics.stdev(gaps) / SEEDS**0.5
        return {"watch_duality_gap": statistics.fmean(gaps), "watch_duality_gap_noise": noise}

    def _measure(self, state, seed):
        recipe = self.recipe
        # A critic without a sigmoid plays for the difference of the means.
        options = {"payoff": _difference} if recipe.loss == "wasserstein" else {}
        return metrics.duality_gap(
            state.generator,
            state.discriminator,
            losses.get(recipe.loss),
            self._real,
            steps=STEPS,
            batch_size=recipe.batch_size,
            perturbed=True,
            evaluation_batches=EVALUATION_BATCHES,
            penalties=recipe.penalties,
            seed=seed,
            **options,
        ).gap

    def _real(self, count, source):
        indices = torch.randint(len(self.data), (count,), generator=source, device=source.device).cpu()
        return self.data.batch(indices)[0].to(self.device)


def _difference(real_logits, fake_logits):
    return real_logits.double().mean() - fake_logits.double().mean()
