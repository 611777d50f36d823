"""The batches of a run, one after the other."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import count


def batches(data, order, start=0):
    """Yields (samples, labels) of batch number start, start + 1, ... without end.

    A data set with an attribute `prefetch` = n has the next n batches made in a thread; an error in making
    one is raised where that batch is asked for.
    """
    ahead = getattr(data, "prefetch", 0)
    if not ahead:
        for k in count(start):
            yield data.batch(order.batch(k))
    with ThreadPoolExecutor(1) as thread:
        waiting = deque()
        try:
            for k in count(start):
                waiting.append(thread.submit(lambda k=k: data.batch(order.batch(k))))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
