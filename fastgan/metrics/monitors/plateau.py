"""When a run has stopped getting better."""

PATIENCE = 5  # observations without an improvement beyond the noise
# What a run can be judged by: the quantity in its log, less being better, and its standard deviation there.
CRITERIA = {
    "plateau": ("watch_kernel_distance", "watch_kernel_noise"),
    "gap": ("watch_duality_gap", "watch_duality_gap_noise"),
    "wasserstein": ("watch_wasserstein", "watch_wasserstein_noise"),
}


def plateau(rows, patience=PATIENCE, criterion="plateau"):
    """The step of the best observation, if none of the `patience` ones after it was better beyond the noise; else None.

    rows: dicts of a metrics log; those count that have the criterion's quantity: the kernel distance of generated and
    real samples, the perturbed duality gap, or the critic's estimate of the Wasserstein distance. An observation is
    better than the best one before it where it is lower by more than twice the standard deviation, so that a run ends
    neither for a single bad value nor goes on for a lucky one.
    """
    if patience < 1:
        raise ValueError(f"patience must be at least 1, got {patience}")
    quantity, noise = CRITERIA[criterion]
    best, since = None, 0
    for row in (row for row in rows if quantity in row):
        if best is None or row[quantity] < best[quantity] - 2 * row[noise]:
            best, since = row, 0
        else:
            since += 1
    return best["step"] if since >= patience else None


def is_best(rows, criterion="plateau"):
    """Whether the last observation of the criterion's quantity is lower than all before it."""
    quantity, _ = CRITERIA[criterion]
    values = [row[quantity] for row in rows if quantity in row]
    return bool(values) and all(values[-1] < value for value in values[:-1])
