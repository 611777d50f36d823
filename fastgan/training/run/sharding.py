"""A generator whose parameters are spread over the processes, by torch's fully_shard (FSDP2)."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fastgan import processes
from fastgan.penalties import PathLength
from fastgan.training.distributed import is_sharded
from fastgan.training.recipe.recipe import Recipe
from fastgan.training.step.optimizers import make_optimizers
from fastgan.training.step.state import TrainState


class Sharding:
    """Shards a state's generator, its average and its optimiser, in place. torch averages the generator's gradients.

    shard: a function of a module that calls torch.distributed.fsdp.fully_shard on the module and, before, on its parts.
    Errors: ValueError for a run of one process, and for what a sharded generator cannot do.
    """

    def __init__(self, state: TrainState, recipe: Recipe, shard: Callable[[nn.Module], Any]) -> None:
        if processes.world() == 1:
            raise ValueError("shard spreads the generator over several processes: start them with torchrun")
        if recipe.progressive:
            raise ValueError("shard must be None with progressive: the layers of a growing pair change")
        if any(isinstance(term, PathLength) for term in recipe.generator_terms):
            raise ValueError("shard must be None with PathLength: fully_shard has no second derivatives")
        from torch.distributed.tensor import distribute_tensor  # slow to import

        self.recipe, self.device = recipe, next(state.generator.parameters()).device
        first = processes.rank() == 0
        self.copies = [copy.deepcopy(n).cpu() for n in (state.generator, state.average)] if first else []
        before = _entries(state.generator, state.generator_optimizer)
        for network in (state.generator, state.average):
            for parameter in network.parameters():
                parameter.data = parameter.data.contiguous()  # fully_shard knows no other memory format
            shard(network)
        state.generator_optimizer = self._optimizer(state, state.generator)
        sharded: Any  # a DTensor, unless `shard` left the parameter out
        for sharded, entries in zip(state.generator.parameters(), before, strict=True):
            if is_sharded(sharded):
                entries = {
                    name: distribute_tensor(value.contiguous(), sharded.device_mesh, sharded.placements)
                    if value.ndim
                    else value
                    for name, value in entries.items()
                }
            state.generator_optimizer.state[sharded] |= entries

    @contextmanager
    def whole(self, state: TrainState) -> Iterator[None]:
        """Inside the block the state of the first process is whole, as a checkpoint and pictures need it.

        All processes enter the block, since each sends its part.
        """
        sharded = state.generator, state.average, state.generator_optimizer
        of_networks = [
            {name: _full(tensor) for name, tensor in network.state_dict().items()} for network in sharded[:2]
        ]
        of_optimizer = [
            {name: _full(value) for name, value in entries.items()}
            for entries in _entries(state.generator, state.generator_optimizer)
        ]
        try:
            if self.copies:
                for network, tensors in zip(self.copies, of_networks, strict=True):
                    network.to(self.device).load_state_dict(tensors)
                state.generator, state.average = self.copies
                state.generator_optimizer = self._optimizer(state, state.generator)
                for parameter, entries in zip(state.generator.parameters(), of_optimizer, strict=True):
                    state.generator_optimizer.state[parameter] |= entries
            yield
        finally:
            state.generator, state.average, state.generator_optimizer = sharded
            for network in self.copies:
                network.cpu()

    def _optimizer(self, state: TrainState, generator: nn.Module) -> torch.optim.Optimizer:
        return make_optimizers(generator, state.discriminator, self.recipe)[0]


def _entries(network: nn.Module, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The optimiser's state of each parameter of the network, in one order in all processes, which send them."""
    return [dict(sorted(optimizer.state.get(parameter, {}).items())) for parameter in network.parameters()]


def _full(value: Any) -> Any:
    return value.full_tensor() if is_sharded(value) else value
