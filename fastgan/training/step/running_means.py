"""The numbers of the steps since the last log line, kept on the device: a step waits for none of them."""

import torch


class Diverged(RuntimeError):
    """A loss or a logit is no longer finite."""


class RunningMeans:
    def __init__(self):
        self._groups = {}  # steps with the same names (a lazy penalty is not always among them) share a stacked sum

    def add(self, step, values):
        """values: name -> scalar tensor."""
        now = torch.stack([value.float() for value in values.values()])
        names = tuple(values)
        if names not in self._groups:
            self._groups[names] = [torch.zeros_like(now), torch.full_like(now, -1, dtype=torch.int64), 0]
        group = self._groups[names]
        group[0] += now
        group[1].masked_fill_((group[1] < 0) & ~now.isfinite(), step)
        group[2] += 1

    def check(self):
        """Errors: Diverged, with the first step and name that were not finite."""
        bad = [
            (step, name)
            for names, (_, first_bad, _) in self._groups.items()
            for step, name in zip(first_bad.tolist(), names, strict=True)
            if step >= 0
        ]
        if bad:
            step, name = min(bad, key=lambda pair: pair[0])
            raise Diverged(f"step {step}: {name} is not finite; try lower learning rates, a penalty or spectral norm")

    def take(self):
        """Check, then the means since the last call, name -> float."""
        self.check()
        sums, counts = {}, {}
        for names, (total, _, count) in self._groups.items():
            for name, value in zip(names, total.tolist(), strict=True):
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0) + count
        self._groups = {}
        return {name: sums[name] / counts[name] for name in sums}
