"""The numbers of the steps since the last log line, kept on the device: a step waits for none of them."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.nn.utils import parametrize

NEVER = 2**62  # no step has this number
WAITING = 64  # steps whose numbers are summed in one go
LARGEST = 1e18  # the square of a larger number is not finite in fp32
AHEAD = 4  # steps that a GPU may be behind when its checks are read


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
    """Sums are in fp64, so that the means hardly depend on where the sums were cut by a checkpoint."""

    def __init__(
        self, advice: str = "lower learning rates", kept: Iterable[Any] = (), device: torch.device | str = "cpu"
    ) -> None:
        """kept: what `kept` returned, of the steps before those that will be added."""
        self._advice = advice
        self._waiting: list[Any] = []  # (step, name -> scalar tensor)
        self._groups = {}  # steps with the same names (a lazy penalty is not always among them) share a stacked sum
        for names, sums, count in kept:
            total = torch.tensor(sums, dtype=torch.float64, device=device)
            self._groups[tuple(names)] = total, torch.full((len(names),), NEVER, device=device), count

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
            now = torch.stack([value.double() for _, values in rows for value in values.values()])
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

    def kept(self) -> list[list[Any]]:
        """The sums since the last `take`, as JSON holds them."""
        self._sum()
        return [[list(names), total.tolist(), count] for names, (total, _, count) in self._groups.items()]

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


class EachStep:
    """Whether the numbers and the gradients of each step are finite, and no larger than LARGEST: one fused check.

    On a GPU the host reads a check when the GPU has come to it, a few steps later: no step waits.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, torch.Tensor, torch.cuda.Event | None]] = deque()

    def look(self, step: int, values: Mapping[str, torch.Tensor], gradients: list[torch.Tensor]) -> int | None:
        """-> the first step that has diverged, as far as is known now, or None"""
        sizes = [value.detach().float().abs() for value in values.values()]
        if gradients:
            sizes += [size.float() for size in torch._foreach_norm(gradients, float("inf"))]
        if not sizes:
            return None
        largest = torch.stack(sizes).amax()  # NaN if one is NaN
        if largest.is_cuda:
            there = torch.empty((), pin_memory=True).copy_(largest, non_blocking=True)
            event = torch.cuda.Event()
            event.record()
            self._waiting.append((step, there, event))
        else:
            self._waiting.append((step, largest, None))
        return self._read()

    def _read(self):
        while self._waiting:
            step, largest, event = self._waiting[0]
            if event is not None and len(self._waiting) <= AHEAD and not event.query():
                return None
            if event is not None:
                event.synchronize()
            self._waiting.popleft()
            if not largest.item() <= LARGEST:
                self._waiting.clear()
                return step
        return None


def exploded(values: Mapping[str, torch.Tensor]) -> str | None:
    """The first number that is larger than LARGEST, as words."""
    found: Iterable[tuple[str, float]] = ((name, value.item()) for name, value in values.items())
    return next((f"{name} is {value:.1e}, which has exploded" for name, value in found if abs(value) > LARGEST), None)
