"""When a run has stopped getting better."""

PATIENCE = 5  # observations without an improvement beyond the noise


def plateau(rows, patience=PATIENCE):
    """The step of the best observation, if none of the `patience` ones after it was better beyond the noise; else None.

    rows: dicts of a metrics log; those count that have "watch_kernel_distance" (less is better) and
    "watch_kernel_noise", its standard deviation for real samples of the same number. An observation is better than the
    best one before it where it is lower by more than twice that deviation, so that a run ends neither for a single bad
    value nor goes on for a lucky one.
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}")
    best, since = None, 0
    for row in (row for row in rows if "watch_kernel_distance" in row):
        if best is None or row["watch_kernel_distance"] < best["watch_kernel_distance"] - 2 * row["watch_kernel_noise"]:
            best, since = row, 0
        else:
            since += 1
    return best["step"] if since >= patience else None


def is_best(rows):
    """Whether the last observation has a lower kernel distance than all before it."""
    values = [row["watch_kernel_distance"] for row in rows if "watch_kernel_distance" in row]
    return bool(values) and all(values[-1] < value for value in values[:-1])
