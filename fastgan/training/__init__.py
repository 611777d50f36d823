"""Training: a recipe, a state, a step, and the loop around it."""

from fastgan.training.recipe import Recipe
from fastgan.training.state import TrainState
from fastgan.training.tally import Diverged
from fastgan.training.trainer import Trainer

__all__ = ["Diverged", "Recipe", "TrainState", "Trainer"]
