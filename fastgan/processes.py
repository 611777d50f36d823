"""What several processes of one run have in common: each judges its part of a batch, and a mean is the whole batch's.

The processes are those of torch.distributed, once torch.distributed is initialised. A process without torch.distributed
is the only one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

_alone = 0  # how many blocks of `alone` the process is in


def world() -> int:
    """The number of processes; 1 inside `alone`."""
    if _alone or not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


def rank() -> int:
    """The number of this process, from 0 on."""
    return distributed.get_rank() if world() > 1 else 0


@contextmanager
def alone() -> Iterator[None]:
    """Inside the block the process waits for no other one: its batches are whole batches."""
    global _alone
    _alone += 1
    try:
        yield
    finally:
        _alone -= 1


def mean(value: torch.Tensor) -> torch.Tensor:
    """The mean of the processes' values, element by element: of means over equal parts, the mean of the whole batch.

    Differentiable to any order, as the sum of all processes' losses is: the gradient is the mean of the processes'
    gradients. All processes must call the function, and its backward, in one order. One process: the value itself.
    """
    return value if world() == 1 else _Mean.apply(value)


class _Mean(torch.autograd.Function):
    """Linear and its own adjoint."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        total = value.detach().clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total / world()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return mean(gradient)


def part(batch: torch.Tensor, parts: int = 1) -> torch.Tensor:
    """This process's rows of a whole batch (B, ...): of each of `parts` equal, consecutive parts its share."""
    count = world()
    if count == 1:
        return batch
    return batch.unflatten(0, (parts, count, -1))[:, rank()].flatten(0, 1)
