"""Everything that changes while training, in one value; a checkpoint holds it and nothing else."""

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from fastgan.training.ema import make_average
from fastgan.training.optimizers import make_optimizers


@dataclass
class TrainState:
    """`step` counts the generator's updates. Random numbers and the order of the data are functions of (seed, step)."""

    generator: nn.Module
    discriminator: nn.Module
    average: nn.Module
    generator_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    step: int = 0

    @classmethod
    def create(cls, generator, discriminator, recipe):
        generator.train(), discriminator.train()
        optimizers = make_optimizers(generator, discriminator, recipe)
        return cls(generator, discriminator, make_average(generator), *optimizers)

    def networks(self):
        return {"generator": self.generator, "discriminator": self.discriminator, "average": self.average}

    def optimizers(self):
        return {"generator": self.generator_optimizer, "discriminator": self.discriminator_optimizer}
