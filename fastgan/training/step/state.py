"""Everything that changes while training, in one value; a checkpoint holds it and nothing else."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from fastgan.penalties.terms import CRITIC, GENERATOR, with_role
from fastgan.training.recipe.recipe import Recipe
from fastgan.training.step.augmentation import initial_memory
from fastgan.training.step.ema import make_average
from fastgan.training.step.optimizers import make_optimizers
from fastgan.training.step.precision import Precision


@dataclass
class TrainState:
    """`step` counts the steps taken. Random numbers and the order of the data are functions of (seed, step).

    memory: what penalties and the adaptive augmentation remember, name -> dict of tensors.
    scalers: of the gradients of each network with fp16; else {}.
    rollbacks: how often the run went back to a checkpoint since it diverged.
    log: what the next line of the log goes on from, name -> tensor or what JSON holds.
    """

    generator: nn.Module
    discriminator: nn.Module
    average: nn.Module
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    memory: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    step: int = 0
    scalers: dict[str, GradScaler] = field(default_factory=dict)
    rollbacks: int = 0
    log: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, generator: nn.Module, discriminator: nn.Module, recipe: Recipe) -> "TrainState":
        generator.train(), discriminator.train()
        device = next(discriminator.parameters()).device
        memory = initial_memory(recipe) | {
            name: state
            for terms, role in ((recipe.penalties, CRITIC), (recipe.generator_terms, GENERATOR))
            for name, term in with_role(terms, role).items()
            if (state := term.initial_state())
        }
        memory = {name: {k: v.to(device) for k, v in tensors.items()} for name, tensors in memory.items()}
        return cls(
            generator,
            discriminator,
            make_average(generator),
            *make_optimizers(generator, discriminator, recipe),
            memory,
            scalers=Precision(recipe.precision, device).scalers(("generator", "discriminator")),
        )

    def reset_optimizers(self, recipe: Recipe) -> None:
        self.generator_optimizer, self.discriminator_optimizer = make_optimizers(
            self.generator, self.discriminator, recipe
        )

    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}

    def optimizers(self) -> dict[str, Optimizer]:
        return {"generator": self.generator_optimizer, "discriminator": self.discriminator_optimizer}
