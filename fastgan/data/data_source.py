"""Data by the text of a flag, or by the text that a run's folder keeps, and how they are read."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fastgan.data.data_set import DataSet
from fastgan.data.load import FIXED, SUFFIXES, files_of, is_own, names
from fastgan.data.load import load as load_data
from fastgan.data.sources.archives import BRACES


@dataclass(frozen=True)
class Reading:
    """How the images of folders, archives and tables are read; `fastgan data --help` lists what --data takes."""

    resize: Literal["bicubic", "lanczos", "bilinear", "box"] = "bicubic"
    """The filter, which averages over all pixels that become one."""

    crop: Literal["center", "stretch", "none"] = "center"
    """Keep the middle of the longer side, stretch the image to a square, or take images of the right size alone."""

    alpha: Literal["drop", "white", "black", "keep"] = "drop"
    """Transparent pixels: the colour behind them, white, black, or a channel of its own."""

    cache: Path | None = None
    """A folder that keeps the decoded images, mapped into memory, for the next run."""

    workers: int = 2
    """Processes that decode the images that do not fit into memory."""

    links: bool = False
    """Follow links that lead out of the folder."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0; got {self.workers}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, which mean the same from every folder."""
        return asdict(self) | {"cache": None if self.cache is None else str(self.cache.resolve())}

    @classmethod
    def of(cls, flags: dict[str, Any]) -> "Reading":
        """That of a run's flags."""
        found = cls(**flags.get("reading") or {})
        return found if found.cache is None else replace(found, cache=Path(found.cache))


def load(
    source: str,
    resolution: int | None,
    channels: int | None,
    skip_broken: bool = False,
    reading: Reading | None = None,
) -> DataSet:
    """A data set whose images must have this size. Errors: ValueError if a data set of fixed shape has another one."""
    if source not in FIXED:
        return load_data(source, resolution, channels, skip_broken, **asdict(reading or Reading()))
    found, size = load_data(source), (channels, resolution, resolution)
    if any(wanted not in (None, own) for wanted, own in zip(size, found.shape, strict=False)):
        raise ValueError(f"{source} has samples of shape {tuple(found.shape)}, which cannot be chosen; got {size}")
    return found


def recorded(source: str) -> str:
    """The text of a run's folder. Errors: ValueError for a function, which a folder from elsewhere must not name."""
    if is_own(source):
        raise ValueError(f"{source}: is a function, which is called only if a flag names it: give --data or --against")
    return source


def absolute(source: str) -> str:
    """The text that means the same data from every folder: a name as it is, a path as an absolute one."""
    is_path = Path(source).exists() or BRACES.search(source)
    return str(Path(source).resolve()) if is_path and source not in names() else source


def stamp(source: str, reading: Reading) -> Any:
    """What tells one state of a data set from another: its name, or each file's path, size and time of change; None
    for what a function returns."""
    if source in names():
        return source
    if (files := files_of(source, reading.links)) is not None:
        return [files.source, reading.resize, reading.crop, reading.alpha, files.stamp]
    path = Path(source)
    if path.suffix in SUFFIXES and path.is_file():
        return [str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns]
    return None
