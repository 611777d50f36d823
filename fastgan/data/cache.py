"""Decoded images in a file that is mapped into memory."""

import fcntl
import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastgan.atomic_file import replacing, sweep


def cached(
    folder: Path | str, about: dict[str, Any], shape: tuple[int, ...], fill: Callable[[np.ndarray], None]
) -> torch.Tensor:
    """A uint8 tensor of this shape, which `fill` writes into an empty array, kept in `folder` by a hash of `about`.

    The file is there whole or not at all, and processes that map the same file share its memory. The tensor can be read
    alone.
    """
    key = hashlib.blake2b(json.dumps([about, shape], sort_keys=True).encode(), digest_size=12).hexdigest()
    path = Path(folder) / f"{key}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(".lock"), "w") as lock:  # of several processes one decodes, and the others wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        sweep(path.parent)
        if not path.exists():
            with replacing(path) as unfinished:
                array = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
                fill(array)
                array.flush()
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if found.shape != shape or found.dtype != np.uint8:
        raise ValueError(f"{path}: is not what this program wrote; delete it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has no tensors that can be read alone
        return torch.from_numpy(found)
