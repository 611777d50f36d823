"""The batches of a run, one after the other."""

import math
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from fastgan.data.data_set import DataSet


def batches(
    data: DataSet, updates: Iterable[torch.Tensor]
) -> Generator[tuple[torch.Tensor, torch.Tensor | None], None, None]:
    """Yields (samples, condition) for each tensor of indices in `updates`.

    Errors: ValueError, with the data set's name and the sample's index, for samples that are not finite.
    A data set with an attribute `prefetch` = n has the next n batches made in a thread; an error in making
    one is raised when that batch is due.
    """
    ahead = getattr(data, "prefetch", 0)
    if not ahead:
        for indices in updates:
            yield _batch(data, indices)
        return
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[tuple[torch.Tensor, torch.Tensor | None]]] = deque()
        try:
            for indices in updates:
                waiting.append(thread.submit(_batch, data, indices))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _batch(data, indices):
    samples, condition = data.batch(indices)
    # On a GPU the check would wait for the GPU. A sum is one pass; only a sum that is not finite has a second look.
    if samples.device.type == "cpu" and not (math.isfinite(samples.sum()) or samples.isfinite().all()):
        row = int((~samples.flatten(1).isfinite().all(1)).nonzero()[0])
        raise ValueError(f"data ({type(data).__name__}): sample {int(indices[row])} holds NaN or infinity; remove it")
    return samples, condition
