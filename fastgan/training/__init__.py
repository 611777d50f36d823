"""Training: a recipe, a state, a step, and the loop around it."""

from fastgan.training.recipe.growth import ProgressiveSchedule
from fastgan.training.recipe.recipe import Recipe
from fastgan.training.recipe.value_schedule import Schedule
from fastgan.training.run.callback import Callback
from fastgan.training.run.tensorboard import TensorBoard
from fastgan.training.step.compile_critic_loss import compile_critic_loss
from fastgan.training.step.running_means import Diverged
from fastgan.training.step.state import TrainState
from fastgan.training.step.unroll import unrolled_generator_loss
from fastgan.training.trainer import Trainer
from fastgan.training.two_stage import TwoStage

__all__ = [
    "Callback",
    "Diverged",
    "ProgressiveSchedule",
    "Recipe",
    "Schedule",
    "TensorBoard",
    "TrainState",
    "Trainer",
    "TwoStage",
    "compile_critic_loss",
    "unrolled_generator_loss",
]
