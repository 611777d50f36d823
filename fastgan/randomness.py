"""Every random number of a run is a function of the run's seed, a purpose and a position.

No generator is kept from one step to the next, so a checkpoint has no generator's state.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from fastgan import processes


def derive(seed: int, purpose: str, position: int = 0) -> int:
    """A 63-bit seed for one purpose ("latents", "data order") at one position (a step, an epoch)."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, purpose: str, position: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch.Generator for one purpose at one position."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, position))


@contextmanager
def global_seed(seed: int, purpose: str, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed torch's global generators inside the block, and restore the caller's state after it.

    Inside the block, `reseed` sets a new seed: the numbers that modules draw (initial weights, dropout) follow from the
    run's seed.
    """
    devices = [device] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices):
        reseed(seed, purpose)
        yield


def reseed(seed: int, purpose: str, position: int = 0) -> None:
    """Seed torch's global generators for one purpose at one position; in a block of `sharing`, those of `of_batch` so,
    and torch's differently in each process."""
    if _shared is not None and processes.world() > 1:
        _shared.source.manual_seed(derive(seed, purpose, position))
        purpose = f"{purpose}, process {processes.rank()}"
    seed = derive(seed, purpose, position)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # torch.manual_seed notes the stack for a GPU that may come: most of a tiny step
        torch.cuda.manual_seed_all(seed)


class Shared:
    """rows: the samples of a batch in this process. source: what all processes draw the whole batch's numbers from."""

    def __init__(self, device: torch.device | str) -> None:
        self.rows, self.source = 0, torch.Generator(device)


class _Again:
    """A context, for any number of uses, in which the source gives the numbers that follow when this is made."""

    def __init__(self, source: torch.Generator) -> None:
        self.source, self.state = source, source.get_state()
        self.before: list[torch.Tensor] = []

    def __enter__(self) -> None:
        self.before.append(self.source.get_state())
        self.source.set_state(self.state)

    def __exit__(self, *error: object) -> None:
        self.source.set_state(self.before.pop())


_shared: Shared | None = None


@contextmanager
def sharing(device: torch.device | str) -> Iterator[Shared]:
    """Inside the block `of_batch` draws the same numbers for any number of processes. Set `rows` before each update."""
    global _shared
    before, _shared = _shared, Shared(device)
    try:
        yield _shared
    finally:
        _shared = before


def of_batch(
    random: Callable[..., torch.Tensor],
    shape: Sequence[int],
    *,
    dim: int = 0,
    generator: torch.Generator | None = None,
    **options: Any,
) -> torch.Tensor:
    """random(shape, generator=, **options), the numbers of a batch's samples, which lie along `dim`.

    In a block of `sharing` each of several processes draws the numbers of the whole batch, and takes its own. The
    samples may be those of several batches that are judged in one call, real ones before generated ones.
    """
    world = processes.world()
    if _shared is None or world == 1 or generator is not None:
        return random(shape, generator=generator, **options)
    count, rows = shape[dim], _shared.rows
    batches = count // rows if count % rows == 0 else 1
    whole = random((*shape[:dim], world * count, *shape[dim + 1 :]), generator=_shared.source, **options)
    return processes.part(whole.movedim(dim, 0), batches).movedim(0, dim)


def repeated() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Two contexts in which `of_batch` draws the same numbers: torch.utils.checkpoint's context_fn."""
    if _shared is None:
        return nullcontext(), nullcontext()
    return nullcontext(), _Again(_shared.source)
