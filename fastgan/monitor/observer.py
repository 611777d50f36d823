"""The trainer's observations: from the networks to the tensors that the monitors look at."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from fastgan import randomness
from fastgan.models import sampling
from fastgan.monitor.observation import Modes, Reference, auc, gradient_norm, largest_spectral_norm, observe, pooled
from fastgan.monitor.quality import Quality, small
from fastgan.monitor.stop import estimates_wasserstein
from fastgan.nn.modes import evaluation_mode
from fastgan.nn.pack import pack
from fastgan.penalties import Critic
from fastgan.penalties.terms import CRITIC, with_role

COUNT = 512  # samples in an observation
FEWEST = 32
AT_AN_END = 0.99  # of [-1, 1]: beyond it a pixel is black or white


class Watch:
    """Looks at the generator in training (not at its average, which hides a collapse that moves about).

    features: samples -> (B, D), or an Extractor, in which the averaged generator's distance from real samples is
    measured; by default those of Structure for images, and the samples themselves for vectors. Always the same latents
    and real samples, drawn from the run's seed alone; the global random numbers, which a network may draw from in its
    forward, are seeded again before each step.
    """

    def __init__(
        self, recipe: Any, data: Any, state: Any, features: Callable[[torch.Tensor], Any] | None = None
    ) -> None:
        self.recipe, self.features = recipe, features
        self.count = min(COUNT, len(data) // 2) // recipe.pack * recipe.pack
        self.references: dict[torch.Size, Reference] = {}
        self.qualities: dict[torch.Size, Quality] = {}
        self.before: torch.Tensor | None = None
        self.step = state.step
        if self.count < FEWEST:
            return
        self.device = next(state.generator.parameters()).device
        order = torch.randperm(len(data), generator=randomness.generator(recipe.seed, "watch reals"))
        self.indices = order[: self.count]
        halves = [data.batch(order[i * self.count : (i + 1) * self.count]) for i in range(2)]
        self.real, condition = halves[0]
        conditional = getattr(state.generator, "classes", None) or sampling.takes_source(state.generator)
        self.condition = condition.to(self.device) if conditional else None
        self.real = self.real.to(self.device)
        self.pooled = [pooled(samples.to(self.device)) for samples, _ in halves]
        self.halves = [small(samples.to(self.device)) for samples, _ in halves]
        self.modes = Modes.of(data, self.count)
        labelled = self.modes is None and data.classes is not None and getattr(condition, "ndim", 0) == 1
        self.labels = condition.to(self.device) if labelled else None
        self.classes = len(data.classes or ()) if labelled else 0
        self.estimates_wasserstein = estimates_wasserstein(recipe, state.discriminator)
        self.before = pooled(self._generate(state.generator))

    def __call__(self, state: Any) -> dict[str, Any]:
        """name -> number, each name begins with "watch_"; nothing if the data are too few. Samples that are not finite
        are counted, and nothing else is seen of them."""
        if self.count < FEWEST:
            return {}
        samples = self._generate(state.generator)
        average = self._generate(state.average)  # what is kept as best, so what must be judged
        broken = sum((~x.flatten(1).isfinite().all(1)).sum().item() for x in (samples, average))
        if broken:
            return {"watch_not_finite": broken, "watch_samples": len(samples) + len(average)}
        fake = pooled(samples)
        before = self.before if self.before is not None and self.before.shape == fake.shape else None
        seen: dict[str, Any] = {**observe(self._reference(fake.shape), fake, before)}
        if self.recipe.generator_lr:
            seen["rate"] = self.recipe.at(self.step).generator_lr / self.recipe.generator_lr
        seen["interval"], self.before, self.step = state.step - self.step, fake, state.step
        if self.modes is not None:
            seen |= {"modes_missing": self.modes.missing(fake), "modes": len(self.modes.means)}
        if getattr(state.generator, "level", None) is not None:  # of a pair that grows
            seen["growing"] = growing(state.generator)
        for name, term in with_role(self.recipe.at(state.step).penalties, CRITIC).items():
            if term.aimed_norm and (aimed := getattr(term, term.aimed_norm)):
                seen[f"asked_{name}_gradient_norm"] = aimed
        real = self._real_like(samples)
        real_logits, fake_logits = self._judge(state.discriminator, real, samples)
        numbers = {
            "auc": auc(real_logits, fake_logits),
            "d_real": real_logits.mean(),
            "d_fake": fake_logits.mean(),
            "logit_distance": (real_logits[:, None] - fake_logits).abs().mean(),
            "sample_distance": (real - samples).flatten(1).norm(dim=1).mean(),
            "spectral_norm": largest_spectral_norm(state.discriminator),
            "g_grad": gradient_norm(state.generator),
            "d_grad": gradient_norm(state.discriminator),
        }
        if self.estimates_wasserstein:
            numbers["wasserstein"] = real_logits.mean() - fake_logits.mean()
            numbers["wasserstein_noise"] = ((real_logits.var() + fake_logits.var()) / len(real_logits)).sqrt()
        if samples.ndim == 4:
            numbers |= {"saturated": _at_an_end(samples), "saturated_real": _at_an_end(real)}
        if average.shape == samples.shape:
            average = small(average)
            quality = self._quality(average.shape)
            seen |= {"kernel_distance": quality.distance(average), "kernel_noise": quality.noise}
        values = torch.stack([value.to(self.device) for value in numbers.values()]).nan_to_num().tolist()
        seen = {name: value for name, value in seen.items() if isinstance(value, list) or math.isfinite(value)}
        return {f"watch_{name}": value for name, value in (seen | dict(zip(numbers, values, strict=True))).items()}

    def _generate(self, generator):
        randomness.reseed(self.recipe.seed, "watch")
        z = sampling.latents(generator, self.count, self.recipe.seed, "watch latents", device=self.device)
        return sampling.sample(generator, z, self.condition)

    def _real_like(self, fake):
        """The real samples as a progressive pair that has not grown up yet sees them."""
        real = self.real
        while real.ndim == 4 and real.shape[2] > fake.shape[2]:
            real = F.avg_pool2d(real, 2)
        return real

    @torch.no_grad()
    def _judge(self, discriminator, real, fake):
        """Mean logit of each real and generated sample (pack), (n,) each."""
        size = self.recipe.pack
        critic = Critic(discriminator, pack(self.condition, size), None, size)
        with evaluation_mode(discriminator):
            return [critic(pack(x, size)).float().reshape(len(x) // size, -1).mean(1) for x in (real, fake)]

    def _quality(self, shape):
        if shape not in self.qualities:
            source = randomness.generator(self.recipe.seed, "watch halves")
            sets = [x if x.ndim != 4 else F.adaptive_avg_pool2d(x, shape[2:]) for x in self.halves]
            self.qualities[shape] = Quality(sets[0], sets[1], self.features, source)
        return self.qualities[shape]

    def _reference(self, shape):
        if shape not in self.references:
            source = randomness.generator(self.recipe.seed, "watch subsets")
            sets = [x if x.ndim != 4 else F.adaptive_avg_pool2d(x, shape[2:]) for x in self.pooled]
            self.references[shape] = Reference(sets[0], sets[1], self.labels, self.classes, source)
        return self.references[shape]


def growing(generator):
    """Whether this is a progressive generator that has not grown up yet."""
    level = getattr(generator, "level", None)
    return level is not None and (level, generator.alpha) != (generator.levels, 1.0)


def _at_an_end(images):
    """The share of values that are black or white, () float."""
    return (images.abs() > AT_AN_END).float().mean()
