"""A recipe's numbers as functions of the step."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

SHAPES = {
    "linear": lambda t: t,
    "cosine": lambda t: (1 - math.cos(math.pi * t)) / 2,
}


@dataclass(frozen=True)
class Schedule:
    """value(step) = start + (to - start) * shape(t), t = (step - begin) / steps cut to [0, 1].

    field: of the recipe ("generator_lr", "ema_decay", ...); of one number in a tuple, by its place ("betas.1"); of a
        penalty, by its name ("R1.gamma").
    to, steps: the value at the end, and how many steps it takes to get there.
    start: the first value; None for the recipe's own.
    shape: "linear", or "cosine", (1 - cos(pi t)) / 2.
    """

    field: str
    to: float
    steps: int
    start: float | None = None
    begin: int = 0
    shape: str = "linear"

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"shape must be one of {', '.join(SHAPES)}; got {self.shape!r}")
        for name, least in (("steps", 1), ("begin", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}")
        for name in ("to", "start"):
            value = getattr(self, name)
            if not (is_number(value) or (name == "start" and value is None)):
                raise ValueError(f"{name} must be a finite number; got {value!r}")
        if not isinstance(self.field, str):
            raise ValueError(f"field must be a recipe's field as text; got {self.field!r}")

    def __call__(self, own: float, step: int) -> float:
        """The value at a step. own: the recipe's value without this schedule."""
        start = own if self.start is None else self.start
        t = min(max((step - self.begin) / self.steps, 0.0), 1.0)
        return start + (self.to - start) * SHAPES[self.shape](t)


def is_number(value: Any) -> bool:
    """Whether the value is a finite real number, and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
