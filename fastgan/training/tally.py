"""The numbers of the steps since the last log line, kept on the device: a step waits for none of them."""

import torch


class Diverged(RuntimeError):
    """A loss or a logit is no longer finite."""


class Tally:
    def __init__(self):
        self._clear()

    def add(self, step, values):
        """values: name -> scalar tensor, the same names at each step."""
        now = torch.stack([value.float() for value in values.values()])
        if self._sum is None:
            self._names, self._sum = tuple(values), torch.zeros_like(now)
            self._first_bad = torch.full_like(now, -1, dtype=torch.int64)
        self._sum += now
        self._count += 1
        self._first_bad.masked_fill_((self._first_bad < 0) & ~now.isfinite(), step)

    def check(self):
        """Errors: Diverged, with the first step and name that were not finite."""
        bad = [(step, name) for step, name in zip(self._first_bad.tolist(), self._names, strict=True) if step >= 0]
        if bad:
            step, name = min(bad, key=lambda pair: pair[0])
            raise Diverged(f"step {step}: {name} is not finite; try lower learning rates, a penalty or spectral norm")

    def take(self):
        """Check, then the means since the last call, name -> float."""
        self.check()
        means = dict(zip(self._names, (self._sum / self._count).tolist(), strict=True))
        self._clear()
        return means

    def _clear(self):
        self._names, self._sum, self._first_bad, self._count = (), None, torch.empty(0), 0
