"""Which samples make up a batch."""

import torch

from fastgan import randomness
from fastgan.data.data_set import DataSet


class Order:
    """An endless sequence of indices; what lies at a position is a function of (seed, position) alone.

    So a run that resumes needs nothing but its step. Each epoch is a fresh permutation of all samples; a batch may
    begin in one epoch and end in the next, so that every batch is full and every sample is seen equally often. With
    replacement, no epochs exist: every index is an independent uniform draw.
    """

    def __init__(self, size: int, seed: int, replacement: bool = False) -> None:
        self.size, self.seed, self.replacement = size, seed, replacement
        self._permutations: dict[int, torch.Tensor] = {}  # of the newest epochs: a cache, not a state

    @classmethod
    def of(cls, data: DataSet, seed: int) -> "Order":
        """The order that suits a data set: with replacement where it says so by an attribute `replacement`."""
        return cls(len(data), seed, getattr(data, "replacement", False))

    def take(self, position: int, count: int) -> torch.Tensor:
        """The `count` indices from `position` on, int64 (count,)."""
        if self.replacement:  # of one place only what begins there is drawn: batches do not overlap
            source = randomness.generator(self.seed, "data with replacement", position)
            return torch.randint(self.size, (count,), generator=source)
        parts, end = [], position + count
        while position < end:
            epoch, offset = divmod(position, self.size)
            part = self._permutation(epoch)[offset : offset + end - position]
            parts.append(part)
            position += len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _permutation(self, epoch):
        if epoch not in self._permutations:
            generator = randomness.generator(self.seed, "data order", epoch)
            newest = sorted(self._permutations)[-1:]
            self._permutations = {e: self._permutations[e] for e in newest}
            self._permutations[epoch] = torch.randperm(self.size, generator=generator)
        return self._permutations[epoch]
