"""When a run has stopped getting better."""

from dataclasses import dataclass

PATIENCE = 5  # observations without an improvement beyond the noise


@dataclass(frozen=True)
class Series:
    """A number of the observations, less of which is better, and its standard deviation by chance; keys of a row.

    from_peak: it means nothing before its highest value, as the Wasserstein estimate of a critic that still learns.
    """

    value: str
    noise: str
    from_peak: bool = False

    def of(self, rows):
        """The rows that count: those that have it and, of a pair that grows, those of the whole pair, since numbers
        of two resolutions do not compare."""
        seen = [row for row in rows if self.value in row and not row.get("watch_growing")]
        if not self.from_peak or not seen:
            return seen
        return seen[max(range(len(seen)), key=lambda i: seen[i][self.value]) :]


KERNEL_DISTANCE = Series("watch_kernel_distance", "watch_kernel_noise")
WASSERSTEIN = Series("watch_wasserstein", "watch_wasserstein_noise", from_peak=True)
GAP = Series("watch_gap", "watch_gap_noise")


def plateau(rows, series=KERNEL_DISTANCE, patience=PATIENCE):
    """The step of the best observation, if none of the `patience` ones after it was better beyond the noise; else None.

    rows: dicts of a metrics log, those without the series count for nothing. An observation is better than the best
    one before it where it is lower by more than twice its own noise, so that a run ends neither for a single bad value
    nor goes on for a lucky one.
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}")
    best, since = None, 0
    for row in series.of(rows):
        if best is None or row[series.value] < best[series.value] - 2 * row[series.noise]:
            best, since = row, 0
        else:
            since += 1
    return best["step"] if since >= patience else None


def is_best(rows, series=KERNEL_DISTANCE):
    """Whether the last observation has a lower value than all before it that count."""
    values = [row[series.value] for row in series.of(rows)]
    return bool(values) and all(values[-1] < value for value in values[:-1])
