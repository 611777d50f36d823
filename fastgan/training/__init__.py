"""Training: a recipe, a state, a step, and the loop around it."""

from fastgan.training.compile_critic_loss import compile_critic_loss
from fastgan.training.progressive import ProgressiveSchedule
from fastgan.training.recipe import Recipe
from fastgan.training.schedule import Schedule
from fastgan.training.state import TrainState
from fastgan.training.tally import Diverged
from fastgan.training.trainer import Trainer
from fastgan.training.two_stage import TwoStage
from fastgan.training.unroll import unrolled_generator_loss

__all__ = [
    "Diverged",
    "ProgressiveSchedule",
    "Recipe",
    "Schedule",
    "TrainState",
    "Trainer",
    "TwoStage",
    "compile_critic_loss",
    "unrolled_generator_loss",
]
