"""The numbers of the steps since the last log line, kept on the device: a step waits for none of them."""

import torch
from torch.nn.utils import parametrize

NEVER = 2**62  # no step has this number
WAITING = 64  # steps whose numbers are summed in one go


class Diverged(RuntimeError):
    """A loss or a logit is no longer finite."""


def advice_against_divergence(recipe, discriminator):
    """What this recipe and this discriminator do not have yet."""
    advice = ["lower learning rates"]
    if not recipe.penalties:
        advice.append("a penalty")
    if not any(parametrize.is_parametrized(module) for module in discriminator.modules()):
        advice.append("spectral norm in the discriminator")
    return advice[0] if len(advice) == 1 else f"{', '.join(advice[:-1])} or {advice[-1]}"


class RunningMeans:
    def __init__(self, advice="lower learning rates"):
        self._advice = advice
        self._waiting = []  # (step, name -> scalar tensor)
        self._groups = {}  # steps with the same names (a lazy penalty is not always among them) share a stacked sum

    def add(self, step, values):
        """values: name -> scalar tensor."""
        self._waiting.append((step, values))
        if len(self._waiting) == WAITING:
            self._sum()

    def _sum(self):
        waiting, self._waiting = self._waiting, []
        alike = {}
        for step, values in waiting:
            alike.setdefault(tuple(values), []).append((step, values))
        for names, rows in alike.items():
            now = torch.stack([value.float() for _, values in rows for value in values.values()])
            now = now.view(len(rows), len(names))
            steps = torch.tensor([step for step, _ in rows], device=now.device)[:, None]
            bad = torch.where(now.isfinite(), NEVER, steps).amin(0)
            total, first_bad, count = self._groups.get(names, (0.0, bad, 0))
            self._groups[names] = total + now.sum(0), torch.minimum(first_bad, bad), count + len(rows)

    def check(self):
        """Errors: Diverged, with the first step and name that were not finite."""
        self._sum()
        bad = [
            (step, name)
            for names, (_, first_bad, _) in self._groups.items()
            for step, name in zip(first_bad.tolist(), names, strict=True)
            if step < NEVER
        ]
        if bad:
            step, name = min(bad, key=lambda pair: pair[0])
            raise Diverged(f"step {step}: {name} is not finite; try {self._advice}")

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
