"""Training: a recipe, a state, a step, and the loop around it."""

from fastgan.training.build import build
from fastgan.training.callbacks.callback import Callback
from fastgan.training.callbacks.trackers import MLflow, TensorBoard, WandB
from fastgan.training.distributed import ProcessFailed
from fastgan.training.recipe.growth import ProgressiveSchedule
from fastgan.training.recipe.recipe import Recipe
from fastgan.training.recipe.value_schedule import Schedule
from fastgan.training.run.damaged import Damaged
from fastgan.training.run.interrupts import Interrupted
from fastgan.training.run.load_generator import load_generator
from fastgan.training.run.options import RunOptions
from fastgan.training.step.compile_critic_loss import compile_critic_loss
from fastgan.training.step.graphs import graphed
from fastgan.training.step.running_means import Diverged
from fastgan.training.step.state import TrainState
from fastgan.training.step.unroll import unrolled_generator_loss
from fastgan.training.trainer import StartsFresh, Trainer
from fastgan.training.two_stage import TwoStage

__all__ = [
    "Callback",
    "Damaged",
    "Diverged",
    "Interrupted",
    "MLflow",
    "ProcessFailed",
    "ProgressiveSchedule",
    "Recipe",
    "RunOptions",
    "Schedule",
    "StartsFresh",
    "TensorBoard",
    "TrainState",
    "Trainer",
    "TwoStage",
    "WandB",
    "build",
    "compile_critic_loss",
    "graphed",
    "load_generator",
    "unrolled_generator_loss",
]
