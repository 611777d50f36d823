"""When a run has stopped getting better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FEWEST = 3  # observations without an improvement beyond the noise


@dataclass(frozen=True)
class Series:
    """A number of the log, less of which is better, and its standard deviation by chance; keys of a row.

    noise: None for a number without one. from_peak: it means nothing before its highest value, as the Wasserstein
    estimate of a critic that still learns. by: a key that says how the number was measured.
    """

    value: str
    noise: str | None
    from_peak: bool = False
    by: str | None = None

    def of(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The rows that count: rows with the number, measured as the newest one was. Of a pair that grows, only rows
        of the whole pair count, since numbers of two resolutions do not compare."""
        seen = [row for row in rows if self.value in row and not row.get("watch_growing")]
        if self.by is not None:
            seen = [row for row in seen if row.get(self.by) == seen[-1].get(self.by)]
        if not self.from_peak or not seen:
            return seen
        return seen[max(range(len(seen)), key=lambda i: seen[i][self.value]) :]


KERNEL_DISTANCE = Series("watch_kernel_distance", "watch_kernel_noise")
WASSERSTEIN = Series("watch_wasserstein", "watch_wasserstein_noise", from_peak=True)
GAP = Series("watch_gap", "watch_gap_noise")
FID = Series("fid", None, by="fid_by")


def best(rows: Sequence[Mapping[str, Any]], series: Series = KERNEL_DISTANCE) -> Mapping[str, Any] | None:
    """The row of the lowest value of those that count, the first of equal ones; None without any."""
    return min(series.of(rows), key=lambda row: row[series.value], default=None)


def is_best(rows: Sequence[Mapping[str, Any]], series: Series = KERNEL_DISTANCE) -> bool:
    """Whether the last row is the best: what a run keeps as its best state."""
    return bool(rows) and best(rows, series) is rows[-1]


def plateau(rows: Sequence[Mapping[str, Any]], series: Series = KERNEL_DISTANCE, patience: float = 1000) -> int | None:
    """The step of the best row, if for `patience` steps, and half of the steps before them, nothing improved; else
    None.

    rows: dicts of a metrics log, each with "step"; those without the series count for nothing. A row improves on those
    before it if it is lower by more than twice its own noise, so that a run ends neither for a single bad value nor
    goes on for a lucky one. At least three rows have to follow the last improvement. What is best is the lowest value:
    see `best`.
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1 step, got {patience}")
    lowest: Any = None
    last: Any = None
    since = 0
    for row in series.of(rows):
        noise = 0.0 if series.noise is None else row[series.noise]
        if lowest is None or row[series.value] < lowest - 2 * noise:
            lowest, last, since = row[series.value], row["step"], 0
        else:
            since += 1
    waited = since >= FEWEST and row["step"] - last >= max(patience, last / 2)
    kept = best(rows, series) if waited else None
    return None if kept is None else kept["step"]
