"""Which samples make up a batch."""

import torch

from fastgan import randomness


class Order:
    """Batch number k as a function of (seed, k) alone: a run that resumes needs no position but its step.

    Each epoch is a fresh permutation of all samples; a batch may begin in one epoch and end in the next, so that
    every batch is full and every sample is seen equally often. With replacement there are no epochs: every index is
    an independent uniform draw.
    """

    def __init__(self, size, batch_size, seed, replacement=False):
        self.size, self.batch_size, self.seed, self.replacement = size, batch_size, seed, replacement
        self._permutations = {}  # of the last epochs asked for: a cache, not a state

    @classmethod
    def of(cls, data, batch_size, seed):
        """The order that suits a data set: with replacement where it says so by an attribute `replacement`."""
        return cls(len(data), batch_size, seed, getattr(data, "replacement", False))

    def batch(self, k):
        """The indices of batch k, int64 (batch_size,)."""
        if self.replacement:
            source = randomness.generator(self.seed, "data with replacement", k)
            return torch.randint(self.size, (self.batch_size,), generator=source)
        parts, position, end = [], k * self.batch_size, (k + 1) * self.batch_size
        while position < end:
            epoch, offset = divmod(position, self.size)
            part = self._permutation(epoch)[offset : offset + end - position]
            parts.append(part)
            position += len(part)
        return torch.cat(parts)

    def _permutation(self, epoch):
        if epoch not in self._permutations:
            generator = randomness.generator(self.seed, "data order", epoch)
            newest = sorted(self._permutations)[-1:]
            self._permutations = {e: self._permutations[e] for e in newest}
            self._permutations[epoch] = torch.randperm(self.size, generator=generator)
        return self._permutations[epoch]
