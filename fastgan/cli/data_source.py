"""Data by the text of a flag."""

from pathlib import Path

from fastgan import data
from fastgan.data.load import FIXED


def load(source: str, resolution: int | None, channels: int | None, skip_broken: bool = False) -> data.DataSet:
    """A data set whose images must have this size. Errors: ValueError if a data set of fixed shape has another one."""
    if source not in FIXED:
        return data.load(source, resolution, channels, skip_broken=skip_broken)
    found, size = data.load(source), (channels, resolution, resolution)
    if any(wanted not in (None, own) for wanted, own in zip(size, found.shape, strict=False)):
        raise ValueError(f"{source} has samples of shape {tuple(found.shape)}, which cannot be chosen; got {size}")
    return found


def absolute(source: str) -> str:
    """The text that means the same data from every folder: a name as it is, a path as an absolute one."""
    return source if source in data.names() or not Path(source).exists() else str(Path(source).resolve())
