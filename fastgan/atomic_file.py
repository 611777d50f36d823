"""Files that are there whole or not at all, whenever the process is killed."""

import os
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path):
    """Yields a path to write to, which takes the place of `path` when the block has ended without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished{path.suffix}")
    try:
        yield unfinished
        sync(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def sync(path):
    """Have the file's bytes on the disk before anything that refers to them."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
