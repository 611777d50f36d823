"""What a run is made of: the flags of `fastgan train`, the YAML in the run's folder, the argument of Trainer."""

import dataclasses
import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

import torch

from fastgan import losses
from fastgan.atomic_file import replacing
from fastgan.extras import require


class Penalty(Protocol):
    """A term of the critic's loss: penalty(critic, real=x, fake=y) -> scalar tensor, weight included."""

    def __call__(self, critic, *, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Recipe:
    loss: str = "hinge"
    """Adversarial loss, by its name in fastgan.losses."""

    penalties: tuple[Penalty, ...] = ()
    """Terms added to the critic's loss, in this order (from Python)."""

    generator_lr: float = 1e-4
    """Adam's learning rate for the generator."""

    discriminator_lr: float = 4e-4
    """Adam's learning rate for the critic; unequal rates are TTUR (Heusel et al., 2017)."""

    betas: tuple[float, float] = (0.0, 0.9)
    """Adam's decay rates of the first and the second moment, for both networks."""

    discriminator_steps: int = 1
    """Updates of the critic for each update of the generator."""

    batch_size: int = 64
    """Real images in a critic's update, and generated ones in each update of either network."""

    ema_decay: float = 0.999
    """Decay of the moving average of the generator's weights, min(ema_decay, (1 + step) / (10 + step)); 0: none."""

    seed: int = 0
    """Where all of the run's random numbers come from."""

    def __post_init__(self):
        if self.loss not in losses.names():
            self._refuse("loss", f"one of {', '.join(losses.names())}")
        if not isinstance(self.penalties, tuple) or not all(callable(p) for p in self.penalties):
            self._refuse("penalties", "a tuple of callables penalty(critic, real=x, fake=y)")
        for name in ("generator_lr", "discriminator_lr"):
            if not (_is_number(getattr(self, name)) and getattr(self, name) > 0):
                self._refuse(name, "a number above 0")
        if not (
            isinstance(self.betas, tuple) and len(self.betas) == 2 and all(_in_unit_interval(b) for b in self.betas)
        ):
            self._refuse("betas", "two numbers in [0, 1)")
        for name in ("discriminator_steps", "batch_size"):
            if not (_is_integer(getattr(self, name)) and getattr(self, name) >= 1):
                self._refuse(name, "an integer of at least 1")
        if not _in_unit_interval(self.ema_decay):
            self._refuse("ema_decay", "a number in [0, 1)")
        if not (_is_integer(self.seed) and self.seed >= 0):
            self._refuse("seed", "an integer of at least 0")

    def _refuse(self, name, allowed):
        raise ValueError(f"{name} must be {allowed}; got {getattr(self, name)!r}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON; a penalty that is a dataclass as its name and its fields."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["betas"] = list(self.betas)
        values["penalties"] = [_describe(penalty) for penalty in self.penalties]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The inverse of as_dict, without penalties. Errors: ValueError for a field that is unknown or wrong."""
        fields = {field.name: field.type for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise ValueError(f"a recipe has no field {', '.join(unknown)}; it has {', '.join(fields)}")
        if values.get("penalties"):
            raise ValueError(f"penalties cannot be read from a file yet, pass them from Python: {values['penalties']}")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        for key in ("generator_lr", "discriminator_lr"):
            if isinstance(values.get(key), str):  # YAML takes 1e-4 (no point) for text
                values[key] = float(values[key])
        return cls(**values)

    def save(self, path):
        text = require("yaml").safe_dump(self.as_dict(), sort_keys=False)
        with replacing(path) as unfinished:
            unfinished.write_text(text)

    @classmethod
    def load(cls, path) -> "Recipe":
        with open(path) as file:
            values = require("yaml").safe_load(file) or {}
        if not isinstance(values, dict):
            raise ValueError(f"{path}: is no recipe: a mapping of fields is expected")
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value):
    return isinstance(value, Integral) and not isinstance(value, bool)


def _in_unit_interval(value):
    return _is_number(value) and 0 <= value < 1


def _describe(penalty):
    settings = dataclasses.asdict(penalty) if dataclasses.is_dataclass(penalty) else {}
    return {"name": getattr(penalty, "__name__", type(penalty).__name__), **settings}
