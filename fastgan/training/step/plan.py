"""What is due at a step: the recipe's values, the stage of a growing pair, how many samples and updates."""

from itertools import count
from typing import NamedTuple

from fastgan.training.recipe.growth import Stage
from fastgan.training.recipe.recipe import Recipe
from fastgan.training.step.optimizers import set_rates


class Due(NamedTuple):
    recipe: Recipe  # with the values of its schedules
    stage: Stage | None
    samples: int  # drawn for one update, of either kind
    discriminator_steps: int


class StepSchedule:
    """All of it is a function of the step, so that a run resumes anywhere without a memory of its own."""

    def __init__(self, recipe, generator):
        self.recipe = recipe
        self.levels = getattr(generator, "levels", None)
        if recipe.progressive and self.levels is None:
            raise TypeError(
                "progressive needs a pair that grows, with attributes `levels` and `set_stage`: progressive"
            )

    def at(self, step) -> Due:
        recipe, stage, samples = self.recipe.at(step), None, self.recipe.batch_size
        if self.recipe.progressive:
            stage = self.recipe.progressive.at(step, self.levels, samples)
            samples = stage.batch_size
        return Due(recipe, stage, samples * recipe.pack, self.recipe.discriminator_steps_at(step))

    def updates(self, order, start):
        """Yields the samples' indices of each update of the critic, from step number `start` on."""
        position = 0
        for step in count():
            due = self.at(step)
            for _ in range(due.discriminator_steps):
                if step >= start:
                    yield order.take(position, due.samples)
                position += due.samples

    def enter(self, state, recipe):
        """Set the state's optimisers and networks to what its step asks for."""
        due = self.at(state.step)
        if due.stage is not None:
            for network in state.networks().values():
                network.set_stage(due.stage.level, due.stage.alpha)
            if due.stage.begins:
                state.reset_optimizers(recipe)
        set_rates(state, due.recipe)
