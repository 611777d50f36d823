"""A number with its origin: metric, extractor and its hash, N, versions."""

import dataclasses
import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

import fastgan


def versions() -> dict[str, str]:
    """The versions of the installed packages that a number depends on."""
    found = {"fastgan": fastgan.__version__, "torch": torch.__version__}
    for name in ("numpy", "scipy", "torch-fidelity"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # not there, so nothing came from it
    return found


@dataclass(frozen=True)
class Measurement:
    """One value of one metric. `name` is how it is printed: "FID(fashion-cnn)", never plain "FID"."""

    metric: str
    value: float
    extractor: str | None
    """Name and hash of the extractor, "fashion-cnn#0123456789ab"; None without features."""

    n: int
    """Fake samples."""

    n_real: int | None = None
    std: float | None = None
    note: str = ""
    """What to keep in mind, as that N is small for this metric."""

    versions: dict = field(default_factory=versions, compare=False)

    @property
    def name(self) -> str:
        return self.metric if self.extractor is None else f"{self.metric}({self.extractor.partition('#')[0]})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"name": self.name, **dataclasses.asdict(self)}


def column(measurements: Iterable[Measurement]) -> tuple[str, list[float]]:
    """(name, values) of measurements that may stand in one column: of one metric, extractor and N; else ValueError."""
    measurements = list(measurements)
    if not measurements:
        raise ValueError("measurements must not be empty")
    for what in ("metric", "extractor", "n", "n_real"):
        found = list(dict.fromkeys(getattr(m, what) for m in measurements))
        if len(found) > 1:
            raise ValueError(f"numbers of different {what} do not belong in one column: {', '.join(map(str, found))}")
    return measurements[0].name, [m.value for m in measurements]


def table(rows: Mapping[str, Iterable[Measurement]]) -> str:
    """Text from {row's name: measurements}; every row has the same metrics in the same order, see `column`."""
    columns = [column(measurements) for measurements in zip(*rows.values(), strict=True)]
    cells = [["", *(name for name, _ in columns)]]
    cells += [[name, *(f"{values[i]:.5g}" for _, values in columns)] for i, name in enumerate(rows)]
    widths = [max(map(len, texts)) for texts in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]).rstrip()
        for line in cells
    )
