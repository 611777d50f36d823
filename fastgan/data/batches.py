"""The batches of a run, one after the other."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor


def batches(data, updates):
    """Yields (samples, condition) for each tensor of indices in `updates`.

    A data set with an attribute `prefetch` = n has the next n batches made in a thread; an error in making
    one is raised where that batch is asked for.
    """
    ahead = getattr(data, "prefetch", 0)
    if not ahead:
        for indices in updates:
            yield data.batch(indices)
        return
    with ThreadPoolExecutor(1) as thread:
        waiting = deque()
        try:
            for indices in updates:
                waiting.append(thread.submit(data.batch, indices))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
