"""The plan of a step: the recipe's values, the stage of a growing pair, how many samples and updates."""

from dataclasses import dataclass
from itertools import count
from typing import Any, cast

import torch

from fastgan.training.recipe.growth import ProgressiveSchedule, Stage
from fastgan.training.recipe.recipe import Recipe
from fastgan.training.recipe.value_schedule import Schedule
from fastgan.training.step.objective import Roles, Terms
from fastgan.training.step.optimizers import set_rates


@dataclass(frozen=True)
class StepPlan:
    """Computed once a step and passed down. A function of the step, so that a run resumes anywhere without a memory."""

    step: int
    recipe: Recipe  # with the values of its schedules
    stage: Stage | None
    samples: int  # drawn for one update, of either kind
    discriminator_steps: int
    terms: Terms  # what is due

    def enter(self, state):
        """Set the state's optimisers and networks to what the plan says."""
        if self.stage is not None:
            for network in state.networks().values():
                network.set_stage(self.stage.level, self.stage.alpha)
            if self.stage.begins:
                state.reset_optimizers(self.recipe)
        set_rates(state, self.recipe)


class ScheduledTerms:
    """The terms of a recipe, sorted by role once.

    A scheduled factor of a term ("R1.gamma") is a 0-d tensor in the term, which `at` fills: what has been compiled or
    captured reads the new value. changing: the scheduled fields of terms that are not factors: such terms are sorted
    at every step.
    """

    def __init__(self, recipe: Recipe, device: torch.device | str) -> None:
        terms = {type(term).__name__: term for term in (*recipe.penalties, *recipe.generator_terms)}
        self.changing, self._factors = [], {}
        for schedule in cast(tuple[Schedule, ...], recipe.schedules):
            name, _, field = schedule.field.partition(".")
            if name not in terms or not field:
                continue
            if field in getattr(terms[name], "factors", ()):
                self._factors[schedule.field] = torch.zeros((), device=device)
            else:
                self.changing.append(schedule.field)
        self._roles = self._sort(recipe)

    def at(self, recipe: Recipe, step: int) -> Terms:
        """recipe: the one in force at the step."""
        for field, tensor in self._factors.items():
            tensor.fill_(recipe.value_of(field))
        return (self._sort(recipe) if self.changing else self._roles).at(step)

    def _sort(self, recipe):
        recipe = recipe.with_values(self._factors)
        return Roles.of(recipe.penalties, recipe.generator_terms)


class StepSchedule:
    def __init__(self, recipe: Recipe, generator: Any, device: torch.device | str = "cpu") -> None:
        self.recipe = recipe
        self.terms = ScheduledTerms(recipe, device)
        self._growth = cast(ProgressiveSchedule | None, recipe.progressive or None)
        self.levels: Any = getattr(generator, "levels", None)
        if self._growth and self.levels is None:
            raise TypeError(
                "progressive needs a pair that grows, with `levels` and `set_stage(level, alpha)`;"
                " of the built-in models only 'progressive' has them"
            )

    def at(self, step: int) -> StepPlan:
        stage, samples = None, self.recipe.batch_size
        if self._growth:
            stage = self._growth.at(step, self.levels, samples)
            samples = stage.batch_size
        steps = self.recipe.discriminator_steps_at(step)
        recipe = self.recipe.at(step)
        return StepPlan(step, recipe, stage, samples * self.recipe.pack, steps, self.terms.at(recipe, step))

    def updates(self, order, start):
        """Yields the samples' indices of each update of the critic, from step number `start` on."""
        position = sum(updates * samples for updates, samples in self._before(start))
        for step in count(start):
            samples = self._samples_at(step)
            for _ in range(self.recipe.discriminator_steps_at(step)):
                yield order.take(position, samples)
                position += samples

    def _samples_at(self, step):
        size = self.recipe.batch_size
        if self._growth:
            size = self._growth.at(step, self.levels, size).batch_size
        return size * self.recipe.pack

    def _before(self, step):
        """(updates of the critic, samples in each) of the steps before this one, a pair for each batch size in turn."""
        until = self.recipe.discriminator_updates_before
        if not self._growth:
            return [(until(step), self.recipe.batch_size * self.recipe.pack)]
        phases = self._growth.phases(self.levels, self.recipe.batch_size)
        return [
            (until(int(min(phase.end, step))) - until(phase.begin), phase.batch_size * self.recipe.pack)
            for phase in phases
            if phase.begin < step
        ]
