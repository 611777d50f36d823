"""Every random number of a run is a function of the run's seed, a purpose and a position.

No generator is kept from one step to the next, so a checkpoint has no generator's state.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
    """Seed torch's global generators for one purpose at one position."""
    seed = derive(seed, purpose, position)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # torch.manual_seed notes the stack for a GPU that may come: most of a tiny step
        torch.cuda.manual_seed_all(seed)
