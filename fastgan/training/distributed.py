"""A run of several processes: who they are, what they send each other, and what the first one does for all."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from fastgan import processes

VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # beside WORLD_SIZE, as torchrun sets them
PATIENCE = timedelta(hours=1)  # the others wait for pictures and measurements of the first process
BUCKET = 32 * 2**20  # bytes of gradients in one message
FIRST_FAILED = "the first process of the run has failed; its message says why"
T = TypeVar("T")


class ProcessFailed(RuntimeError):
    """Another process of the run has ended, and its message says why."""


def launched() -> bool:
    """Whether this process is one of several that torchrun has started."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def restarted() -> bool:
    """Whether torchrun has started the processes again after one of them died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0


def join(device: str | torch.device | None) -> str | torch.device | None:
    """Take part in the run of several processes that torchrun has started. -> the device of this process.

    Each process takes the GPU of its LOCAL_RANK, or all share the CPU. If torch.distributed is initialised already, its
    processes are the run's. Outside of torchrun nothing happens. Errors: ValueError.
    """
    if launched() and not distributed.is_initialized():
        if missing := [name for name in VARIABLES if name not in os.environ]:
            raise ValueError(
                f"WORLD_SIZE says {os.environ['WORLD_SIZE']} processes, and {', '.join(missing)} is not set: start them"
                " with torchrun, or unset WORLD_SIZE"
            )
        device = _own_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        store, rank, world = next(distributed.rendezvous("env://", timeout=PATIENCE))
        store = distributed.PrefixStore(_attempt(), store)
        distributed.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=PATIENCE)
    elif processes.world() > 1:
        device = _own_device(device)
    if processes.world() > 1 and "cpu:gloo" not in str(distributed.get_backend_config()):
        raise ValueError(
            "torch.distributed must have a backend for the CPU as well, for what processes tell each other: call"
            " init_process_group('cpu:gloo,cuda:nccl')"
        )
    return device


def _attempt() -> str:
    """A name for this start of the processes: torchrun's store may keep the addresses of processes that have died.

    On several machines the counts of restarts may differ. There TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 makes a new store.
    """
    one_machine = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}" if one_machine else "all attempts"


def leave() -> None:
    """After the run. A process that fails does not call this, since its partners may not come."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def _own_device(device: str | torch.device | None) -> torch.device:
    kind = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if kind.type != "cuda":
        return kind
    index, count = int(os.environ.get("LOCAL_RANK") or processes.rank()), torch.cuda.device_count()
    if kind.index not in (None, index):
        raise ValueError(
            f"device must be cpu or cuda in a run of several processes, each of which takes the GPU of its LOCAL_RANK;"
            f" got {str(device)!r} in the process with LOCAL_RANK {index}"
        )
    if index >= count:
        raise ValueError(
            f"the process with LOCAL_RANK {index} has no GPU: the machine has {count}; start fewer processes, or give"
            " the device cpu"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def check_batch(sizes: Iterable[int], accumulate: int) -> None:
    """sizes: of all batches of a recipe. Errors: ValueError for one that the processes cannot share equally."""
    world = processes.world()
    for size in sizes:
        if size % (world * accumulate):
            parts = f" x {accumulate} parts (accumulate)" if accumulate > 1 else ""
            raise ValueError(
                f"batch_size is that of all processes together, and must be a multiple of {world} processes{parts}; got"
                f" {size}"
            )


def check_alike(**facts: Any) -> None:
    """Errors: ValueError that names the first fact which is not the same in all processes."""
    for name, values in _gathered(facts).items():
        for rank, value in enumerate(values):
            if value != values[0]:
                raise ValueError(
                    f"all processes must have the same {name}; process 0 has {values[0]!s:.200}, process {rank} has"
                    f" {value!s:.200}"
                )


def _gathered(facts: dict[str, Any]) -> dict[str, list[Any]]:
    found: list[Any] = [None] * processes.world()
    if len(found) == 1:
        return {name: [value] for name, value in facts.items()}
    distributed.all_gather_object(found, facts)
    return {name: [of_one[name] for of_one in found] for name in facts}


def by_first(function: Callable[[], T]) -> T:
    """function() in the first process; what the function returns, in all processes.

    Errors: those of the function in the first process; ProcessFailed in the others.
    """
    if processes.world() == 1:
        return function()
    said: list[Any] = [False, None]  # whether the function returned, and what
    try:
        if processes.rank() == 0:
            with processes.alone():
                said = [True, function()]
    finally:
        distributed.broadcast_object_list(said)
    if not said[0]:
        raise ProcessFailed(FIRST_FAILED)
    return said[1]


@contextmanager
def watching() -> Iterator[None]:
    """Errors of a message to a process that has ended become ProcessFailed."""
    try:
        yield
    except RuntimeError as error:
        if processes.world() > 1 and (isinstance(error, distributed.DistError) or _of_messages(error)):
            raise ProcessFailed("another process of the run has ended; its message says why") from error
        raise


def _of_messages(error: RuntimeError) -> bool:
    return any(word in str(error).lower() for word in ("gloo", "nccl", "connection closed", "connection reset"))


def take_from_first(networks: Iterable[nn.Module]) -> None:
    """Parameters and buffers become those of the first process."""
    tensors = [t for network in networks for t in (*network.parameters(), *network.buffers())]
    _broadcast([t for t in tensors if not is_sharded(t)])


def average_gradients(network: nn.Module) -> None:
    """After the whole backward: each gradient becomes the mean of the processes' gradients, that of the whole batch.

    All processes must have gradients for the same parameters. Those of a sharded network are averaged already.
    """
    if processes.world() > 1:
        _average([p.grad for p in network.parameters() if p.grad is not None and not is_sharded(p)])


def share_buffers(networks: Iterable[nn.Module]) -> None:
    """After a step: batch norm's running statistics become their means over the processes, all other floating-point
    buffers (the vectors of spectral norm) those of the first process."""
    if processes.world() == 1:
        return
    statistics: list[torch.Tensor] = []
    others: list[torch.Tensor] = []
    for network in networks:
        for module in network.modules():
            averaged = isinstance(module, nn.modules.batchnorm._NormBase)
            for buffer in module._buffers.values():
                if buffer is not None and buffer.is_floating_point():
                    (statistics if averaged else others).append(buffer)
    _average(statistics)
    _broadcast(others)


def of_all(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A step's numbers of the whole batch: the means over the processes; of a largest value, the largest."""
    world = processes.world()
    if world == 1 or not values:
        return values
    own = torch.stack([value.detach().float() for value in values.values()])
    gathered = [torch.empty_like(own) for _ in range(world)]
    distributed.all_gather(gathered, own)
    stacked = torch.stack(gathered)
    mean, largest = stacked.mean(0), stacked.amax(0)
    return {name: (largest if name.endswith("_max") else mean)[i] for i, name in enumerate(values)}


def agreed(
    signal: int | None, is_stopped: bool, best_step: int | None, failed: bool, diverged: bool, late: bool
) -> tuple[int | None, bool, Any, bool, bool]:
    """After each step, what one process says and all do: (signal, is_stopped, best_step, diverged, late).

    signal: that one process has got. late: whether the time until the next checkpoint is over.

    Errors: ProcessFailed if another process says that it has failed.
    """
    if processes.world() == 1:
        return signal, is_stopped, best_step, diverged, late
    told = torch.tensor([signal or 0, is_stopped, -1 if best_step is None else best_step, failed, diverged, late])
    distributed.all_reduce(told, distributed.ReduceOp.MAX)
    signal, is_stopped, best, anywhere, diverged, late = told.tolist()
    if anywhere and not failed:
        raise ProcessFailed(FIRST_FAILED)
    return signal or None, bool(is_stopped), None if best < 0 else best, bool(diverged), bool(late)


def is_sharded(tensor: Any) -> bool:
    """Whether each process holds a part of the tensor: a parameter of torch's fully_shard."""
    return hasattr(tensor, "full_tensor")


def _average(tensors: list[torch.Tensor]) -> None:
    waiting = []
    for bucket in _buckets(tensors):
        flat = torch.cat([t.flatten() for t in bucket])
        waiting.append((bucket, flat, distributed.all_reduce(flat, async_op=True)))
    for bucket, flat, work in waiting:
        work.wait()
        _fill(bucket, flat / processes.world())


def _broadcast(tensors: list[torch.Tensor]) -> None:
    for bucket in _buckets(tensors):
        flat = torch.cat([t.detach().flatten() for t in bucket])
        distributed.broadcast(flat, 0)
        _fill(bucket, flat)


@torch.no_grad()
def _fill(tensors: list[torch.Tensor], flat: torch.Tensor) -> None:
    parts = flat.split([t.numel() for t in tensors])
    torch._foreach_copy_(tensors, [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)])


def _buckets(tensors: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Lists of tensors of one dtype, in their order, each about as large as a message."""
    by_dtype: dict[torch.dtype, list[list[torch.Tensor]]] = {}
    sizes: dict[torch.dtype, int] = {}
    for tensor in tensors:
        kind, size = tensor.dtype, tensor.numel() * tensor.element_size()
        if kind not in by_dtype or sizes[kind] + size > BUCKET:
            by_dtype.setdefault(kind, []).append([])
            sizes[kind] = 0
        by_dtype[kind][-1].append(tensor)
        sizes[kind] += size
    return [bucket for of_kind in by_dtype.values() for bucket in of_kind]
