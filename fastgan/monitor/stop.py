"""When a run ends by itself: a series of numbers of its observations, and what measures them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fastgan import losses, metrics, penalties, randomness
from fastgan.models import sampling
from fastgan.monitor.plateau import FID, GAP, KERNEL_DISTANCE, WASSERSTEIN, is_best, plateau
from fastgan.nn.spectral.parametrization import SpectralNorm
from fastgan.penalties.terms import CRITIC, with_role


class Stop:
    """A criterion: the plateau of `series` ends the run; measure(state) -> the part of it that `Watch` does not see.

    patience: the steps in which the critic sees IMAGES real samples, whatever the interval of the observations.
    Errors: ValueError, with the reason, for a run without a meaning of the series.
    """

    series = KERNEL_DISTANCE
    IMAGES = 128_000

    def __init__(self, recipe: Any, data: Any, generator: nn.Module, discriminator: nn.Module) -> None:
        self.patience = math.ceil(self.IMAGES / recipe.batch_size)

    def measure(self, state: Any) -> dict[str, float]:
        return {}

    def ended(self, rows: Sequence[Mapping[str, Any]]) -> int | None:
        """The step of the best state, if the run should end; else None."""
        return plateau(rows, self.series, self.patience)

    def is_best(self, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the last row's state is the best so far."""
        return is_best(rows, self.series)


class FidStop(Stop):
    """FID, which the run measures every evaluate_every steps."""

    series = FID


class BestFid(FidStop):
    """The state of the lowest FID is kept; the run goes on to its last step."""

    def ended(self, rows):
        return None


class WassersteinStop(Stop):
    series = WASSERSTEIN

    def __init__(self, recipe: Any, data: Any, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__(recipe, data, generator, discriminator)
        if not estimates_wasserstein(recipe, discriminator):
            raise ValueError(
                'stop_when="wasserstein" needs a critic that estimates that distance: loss="wasserstein" with WGANGP,'
                " WeightClip or spectral norm"
            )


class GapStop(Stop):
    """The perturbed duality gap of copies of both networks, the mean of REPEATS measurements.

    A measurement costs 2 x STEPS updates of one network and 4 x EVALUATED batches of samples, by Adam at the recipe's
    higher rate: at a lower one so few steps would find nothing to gain. Its noise is the mean's
    standard error; the seeds are always the same.
    """

    series = GAP
    STEPS, REPEATS, EVALUATED = 50, 3, 8

    def __init__(self, recipe: Any, data: Any, generator: nn.Module, discriminator: nn.Module) -> None:
        super().__init__(recipe, data, generator, discriminator)
        refuse = 'stop_when="gap" measures {}; try stop_when="plateau"'
        if getattr(generator, "classes", None) or sampling.takes_source(generator):
            raise ValueError(refuse.format("networks without conditions"))
        if recipe.pack > 1 or recipe.progressive:
            raise ValueError(refuse.format("critics of single samples (pack=1) of one size (progressive='')"))
        if recipe.loss == "wasserstein":
            raise ValueError(refuse.format("losses with a bounded payoff").replace("plateau", "wasserstein"))
        self.recipe, self.data, self.loss = recipe, data, losses.get(recipe.loss)

    def measure(self, state: Any) -> dict[str, float]:
        device = next(state.discriminator.parameters()).device

        def real(count, source):
            chosen = torch.randint(len(self.data), (count,), generator=source, device=source.device)
            return self.data.batch(chosen.cpu())[0].to(device)

        # A relativistic critic's logits mean something only beside each other.
        payoff: dict[str, Any] = (
            {"payoff": lambda x, y: -self.loss.discriminator(x, y)} if self.loss.generator_needs_real else {}
        )
        found = [
            metrics.duality_gap(
                state.generator,
                state.discriminator,
                self.loss,
                real,
                steps=self.STEPS,
                lr=max(self.recipe.generator_lr, self.recipe.discriminator_lr),
                perturbed=True,
                evaluation_batches=self.EVALUATED,
                penalties=with_role(self.recipe.at(state.step).penalties, CRITIC).values(),
                seed=randomness.derive(self.recipe.seed, "gap", repeat),
                **payoff,
            ).gap
            for repeat in range(self.REPEATS)
        ]
        gaps = torch.tensor(found, dtype=torch.float64)
        if not gaps.isfinite().all():  # a copy diverged: nothing is known of this moment
            return {}
        return {"watch_gap": gaps.mean().item(), "watch_gap_noise": (gaps.std() / self.REPEATS**0.5).item()}


CRITERIA = {"plateau": Stop, "gap": GapStop, "wasserstein": WassersteinStop}
OF_FID = {"plateau": FidStop, "never": BestFid}
CHOICES = (*CRITERIA, "never")


def criterion(
    stop_when: str, recipe: Any, data: Any, generator: nn.Module, discriminator: nn.Module, measures_fid: bool = False
) -> "Stop | None":
    """The Stop of this name, or None for "never". "plateau" and "never" follow FID if the run measures it.

    Errors: ValueError.
    """
    if stop_when not in CHOICES:
        raise ValueError(f"stop_when must be one of {', '.join(CHOICES)}; got {stop_when!r}")
    chosen = (OF_FID if measures_fid else {}).get(stop_when, CRITERIA.get(stop_when))
    return None if chosen is None else chosen(recipe, data, generator, discriminator)


def estimates_wasserstein(recipe: Any, discriminator: nn.Module) -> bool:
    """Whether mean D(x) - mean D(G(z)) is an estimate of the Wasserstein distance, up to the Lipschitz constant."""
    bounded = any(isinstance(p, (penalties.WGANGP, penalties.WeightClip)) for p in recipe.penalties)
    return recipe.loss == "wasserstein" and (
        bounded
        or recipe.spectral_norm in ("discriminator", "both")
        or any(isinstance(module, SpectralNorm) for module in discriminator.modules())
    )
