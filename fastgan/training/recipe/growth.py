"""Progressive growing: resolution as a function of the step (Karras et al., 2018, section 2)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn import functional as F


class Stage(NamedTuple):
    """level 0 is the lowest resolution; alpha goes from 0 to 1 while the newest layers are faded in."""

    level: int
    alpha: float
    batch_size: int
    begins: bool  # the first step of its level: both optimisers start fresh


class Phase(NamedTuple):
    level: int
    fades: bool  # while the level is faded in; else it is trained
    begin: int  # the first step
    end: float  # the first step after it
    batch_size: int


@dataclass(frozen=True)
class ProgressiveSchedule:
    """Level 0 is trained for phase_images images; each further level is faded in for as many, then trained for as many.

    phase_images: real images shown in a phase (the paper: 600,000; 800,000 from the second version on).
    batch_sizes: of each level, the last one for all levels after it; () for the recipe's batch_size.

    Everything is a function of the step: a run that resumes in the middle of a fade goes on exactly there.
    """

    phase_images: int = 600_000
    batch_sizes: tuple[int, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "batch_sizes", tuple(self.batch_sizes))
        for name, values in (("phase_images", (self.phase_images,)), ("batch_sizes", self.batch_sizes)):
            if not all(isinstance(v, int) and v >= 1 for v in values):
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)!r}")

    def at(self, step: int, levels: int, batch_size: int) -> Stage:
        """The stage of a step of a pair with levels 0..levels; batch_size: the recipe's."""
        phase = next(p for p in self.phases(levels, batch_size) if step < p.end)
        alpha = (step - phase.begin) / (phase.end - phase.begin) if phase.fades else 1.0
        begins = step == phase.begin and phase.fades
        return Stage(phase.level, alpha, phase.batch_size, begins)

    def phases(self, levels: int, batch_size: int) -> list[Phase]:
        """The Phases of a pair with levels 0..levels, in their order; the last one does not end."""
        begin, found = 0, []
        for level in range(levels + 1):
            size = self.batch_sizes[min(level, len(self.batch_sizes) - 1)] if self.batch_sizes else batch_size
            steps = -(-self.phase_images // size)
            for fades in (True, False) if level else (False,):
                found.append(Phase(level, fades, begin, begin + steps, size))
                begin += steps
        found[-1] = found[-1]._replace(end=math.inf)
        return found


def shrink(real: torch.Tensor, levels_above: int, alpha: float) -> torch.Tensor:
    """Real images as the networks' stage shows them: (B, C, H, W) -> (B, C, H / 2^n, W / 2^n), n = levels_above.

    While the level is faded in, they lose their finest detail to the same degree: lerp(up(down(x)), x, alpha).
    """
    for _ in range(levels_above):
        real = F.avg_pool2d(real, 2)
    if alpha < 1:
        real = torch.lerp(F.interpolate(F.avg_pool2d(real, 2), scale_factor=2, mode="nearest"), real, alpha)
    return real
