"""Where every random number of a run comes from: the run's seed, a purpose and a position, and nothing else.

No generator lives from one step to the next, so there is no state of one to lose, to save or to get out of order.
"""

import hashlib
from contextlib import contextmanager

import torch


def derive(seed, purpose, position=0):
    """A 63-bit seed for one purpose ("latents", "data order") at one position (a step, an epoch)."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{position}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed, purpose, position=0, device="cpu"):
    """A torch.Generator for one purpose at one position."""
    return torch.Generator(device).manual_seed(derive(seed, purpose, position))


@contextmanager
def global_seed(seed, purpose, device="cpu"):
    """Seeds torch's global generators inside the block, and gives the caller's back after it.

    Inside, `reseed` moves them on: what modules draw themselves (initial weights, dropout) follows the run's seed.
    """
    devices = [device] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices):
        reseed(seed, purpose)
        yield


def reseed(seed, purpose, position=0):
    seed = derive(seed, purpose, position)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # torch.manual_seed notes the stack for a GPU that may come: most of a tiny step
        torch.cuda.manual_seed_all(seed)
