"""The batches of a run, one after the other."""

import math
import signal
import sys
from collections.abc import Generator, Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from fastgan.data.data_set import DataSet
from fastgan.data.sources.torch_data import StreamData

AHEAD = 2  # batches that each worker makes ahead


def batches(
    data: DataSet, updates: Iterable[torch.Tensor]
) -> Generator[tuple[torch.Tensor, torch.Tensor | None], None, None]:
    """Yields (samples, condition) for each tensor of indices in `updates`.

    A data set with an attribute `workers` = n has its batches made ahead in n processes, by torch's DataLoader; what is
    in a batch does not depend on n. An error in making a batch is raised when that batch is due.
    Errors: ValueError, with the data set's name and the sample's index, for samples that are not finite.
    """
    if isinstance(data, StreamData):
        yield from data.stream(updates)
        return
    workers = getattr(data, "workers", 0)
    if not workers:
        for indices in updates:
            yield _batch(data, indices)
        return
    loader = DataLoader(
        _Batches(data),
        batch_size=None,  # an index of _Batches is the indices of a batch
        sampler=updates,
        num_workers=workers,
        prefetch_factor=AHEAD,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_leave_signals_to_the_run,
        generator=torch.Generator(),  # the seeds of workers, which draw nothing, must not come from the run's numbers
        multiprocessing_context="fork" if sys.platform == "linux" else None,
    )
    for found in loader:
        if isinstance(found, Exception):
            raise found
        samples, *condition = found
        yield samples, condition[0] if condition else None


class _Batches(Dataset):
    """A batch for a tensor of indices; or the error, which the loader would wrap into a text of many lines."""

    def __init__(self, data: DataSet) -> None:
        self.data = data

    def __getitem__(self, indices: torch.Tensor) -> Any:
        try:
            samples, condition = _batch(self.data, indices)
        except Exception as error:
            return error
        return (samples,) if condition is None else (samples, condition)


def _batch(data, indices):
    samples, condition = data.batch(indices)
    # On a GPU the check would wait for the GPU. A sum is one pass; only a sum that is not finite has a second look.
    if samples.device.type == "cpu" and not (math.isfinite(samples.sum()) or samples.isfinite().all()):
        row = int((~samples.flatten(1).isfinite().all(1)).nonzero()[0])
        raise ValueError(f"data ({type(data).__name__}): sample {int(indices[row])} holds NaN or infinity; remove it")
    return samples, condition


def _leave_signals_to_the_run(number):
    """Ctrl-C reaches every process of a terminal. The run takes one more step then, and needs its workers."""
    for name in ("SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
