"""What a run is made of: the flags of `fastgan train`, the YAML in the run's folder, the argument of Trainer."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args

import torch

from fastgan import losses, penalties
from fastgan.penalties.terms import CONSTRAINT, CRITIC, GENERATOR, Term, as_term
from fastgan.training.recipe.growth import ProgressiveSchedule
from fastgan.training.recipe.text_form import parse
from fastgan.training.recipe.value_schedule import Schedule, is_number
from fastgan.training.recipe.yaml_file import read_mapping, write_mapping

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")  # of torch.compile


class Penalty(Protocol):
    """A term of the critic's loss: penalty(critic, real=x, fake=y) -> scalar tensor, weight included."""

    def __call__(
        self, critic: Callable[..., torch.Tensor], *, real: torch.Tensor, fake: torch.Tensor
    ) -> torch.Tensor: ...


if TYPE_CHECKING:  # objects, or their text
    Terms = tuple[str | Term | Penalty, ...]
    Schedules = tuple[str | Schedule, ...]
    Growth = str | ProgressiveSchedule
else:  # what the flags of a recipe take
    Terms = Schedules = tuple[str, ...]
    Growth = str


# Tricks are fields, and each field has one place that reads it: nothing here is a branch of the loop.
@dataclass(frozen=True)
class Recipe:
    """How two networks are trained: losses, optimiser, regularisers. Errors: ValueError that names the field."""

    loss: str = "hinge"
    """Adversarial loss, by its name in fastgan.losses."""

    penalties: Terms = ()
    """Terms of the critic's loss and constraints on its weights: objects of fastgan.penalties, or their text, like
    "R1(gamma=1.0)"; from Python any callable penalty(critic, real=x, fake=y)."""

    generator_terms: Terms = ()
    """Terms of the generator's loss beside the adversarial one, in the same form: "L1(weight=100.0)"."""

    generator_lr: float = 1e-4
    """Learning rate of the generator."""

    discriminator_lr: float = 4e-4
    """Learning rate of the critic; unequal rates are TTUR (Heusel et al., 2017)."""

    optimizer: Literal["adam", "rmsprop", "sgd"] = "adam"
    """Optimiser of both networks. betas are Adam's; rmsprop and sgd have no momentum, which weight clipping needs."""

    betas: tuple[float, float] = (0.0, 0.9)
    """Adam's decay rates of the first and the second moment, for both networks."""

    eps: float = 1e-8
    """Added to the root of the second moment by Adam and RMSprop."""

    discriminator_steps: int = 1
    """Updates of the critic before each update of the generator."""

    generator_steps: int = 1
    """Updates of the generator in a step."""

    discriminator_burst: tuple[int, int, int] = (0, 0, 0)
    """(updates, first, every): so many updates of the critic in the first `first` steps and in every `every`-th one;
    the published WGAN code has (100, 25, 500)."""

    update: Literal["alternating", "simultaneous"] = "alternating"
    """Critic first, then the generator against the new critic; or both against each other's old weights, on the same
    samples."""

    batch_size: int = 64
    """Real samples (packs, with pack > 1) in a critic's update, and generated ones in each update of either network."""

    accumulate: int = 1
    """Parts that a batch is cut into, their gradients summed: less memory, the same update. The memories of LeCam, path
    length and adaptive augmentation move once an update, by the whole batch; in a part LeCam and path length use the
    memory as that part would move it."""

    pack: int = 1
    """Samples that the critic judges together, stacked on channels (PacGAN, Lin et al., 2018)."""

    unroll_steps: int = 0
    """Updates of the critic that the generator looks ahead and differentiates through (Metz et al., 2017)."""

    unroll_recompute: bool = False
    """Recompute each of these updates in the backward pass in place of keeping its graph."""

    augment: str = ""
    """Differentiable augmentation of what the critic sees, e.g. "color,translation,cutout" (Zhao et al., 2020)."""

    augment_target: float = 0.0
    """Above 0: the augmentation's probability adapts until the mean sign of D(x) has this value; ADA uses 0.6
    (Karras et al., 2020)."""

    augment_images: int = 500_000
    """Real images in which the augmentation's probability can go from 0 to 1. The default is ADA's, for runs of
    millions; short runs need fewer."""

    spectral_norm: Literal["as built", "none", "discriminator", "generator", "both"] = "as built"
    """Networks with spectral norm: `fastgan train` builds them so, and Trainer adds it to each convolution, linear
    layer and embedding that has none yet. "as built": the architecture's own choice."""

    sync_batch_norm: bool = True
    """In a run of several processes, batch norm with the statistics of the whole batch, as in one process. Without it
    each process normalises by its part, which costs less time, and the running statistics are averaged."""

    progressive: Growth = ""
    """Growing of a pair that has levels (Karras et al., 2018), as the text
    "ProgressiveSchedule(phase_images=600000)" or as an object."""

    schedules: Schedules = ()
    """Numbers that change with the step, objects or text: "Schedule('generator_lr', to=0.0, steps=50000)"."""

    ema_decay: float = 0.999
    """Decay of the moving average of the generator's weights, min(ema_decay, (1 + step) / (10 + step)); 0: none."""

    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """The numbers that both networks compute in. "tf32": faster products of fp32 on NVIDIA GPUs. "bf16", "fp16":
    autocast around both networks; losses, penalties, optimisers and the average stay fp32. With "fp16" the gradients
    are scaled, and a step whose gradients overflow is skipped (the log's d_skipped, g_skipped)."""

    compile: bool | str = False
    """Compile the critic's loss with its penalties, backward pass included. True, or a mode of torch.compile:
    "reduce-overhead", "max-autotune". The first step takes a minute; random layers draw other numbers."""

    seed: int = 0
    """Seed of all random numbers of the run."""

    def __post_init__(self):
        self._read_text()
        if self.loss not in losses.names():
            self._refuse("loss", f"one of {', '.join(losses.names())}")
        for name, roles in (("penalties", {CRITIC, CONSTRAINT}), ("generator_terms", {GENERATOR})):
            terms = getattr(self, name)
            if not isinstance(terms, tuple) or not all(callable(t) or isinstance(t, Term) for t in terms):
                self._refuse(name, "a tuple of callables penalty(critic, real=x, fake=y), or of their text")
            for term in map(as_term, terms):
                if not roles & set(term.roles):
                    other = "generator_terms" if GENERATOR in term.roles else "penalties"
                    raise ValueError(f"{name} must hold terms of that loss; {term.name} belongs in {other}")
        for name in ("generator_lr", "discriminator_lr"):
            if not (is_number(getattr(self, name)) and getattr(self, name) >= 0):
                self._refuse(name, "a number of at least 0")
        if not (
            isinstance(self.betas, tuple) and len(self.betas) == 2 and all(_in_unit_interval(b) for b in self.betas)
        ):
            self._refuse("betas", "two numbers in [0, 1)")
        for name in ("discriminator_steps", "generator_steps", "batch_size", "accumulate", "pack", "augment_images"):
            if not (_is_integer(getattr(self, name)) and getattr(self, name) >= 1):
                self._refuse(name, "an integer of at least 1")
        for name in ("seed", "unroll_steps"):
            if not (_is_integer(getattr(self, name)) and getattr(self, name) >= 0):
                self._refuse(name, "an integer of at least 0")
        burst = self.discriminator_burst
        if not (isinstance(burst, tuple) and len(burst) == 3 and all(_is_integer(n) and n >= 0 for n in burst)):
            self._refuse("discriminator_burst", "three integers of at least 0")
        for name in ("optimizer", "update", "spectral_norm", "precision"):
            allowed = get_args(next(f.type for f in dataclasses.fields(self) if f.name == name))
            if getattr(self, name) not in allowed:
                self._refuse(name, f"one of {', '.join(allowed)}")
        if not (is_number(self.eps) and self.eps >= 0):
            self._refuse("eps", "a number of at least 0")
        for name in ("ema_decay", "augment_target"):
            if not _in_unit_interval(getattr(self, name)):
                self._refuse(name, "a number in [0, 1)")
        self._check_combinations()

    def _read_text(self):
        known = {
            "penalties": penalties.PENALTIES | penalties.CONSTRAINTS,
            "generator_terms": penalties.GENERATOR_TERMS,
            "schedules": {"Schedule": Schedule},
        }
        for name, classes in known.items():
            values = getattr(self, name)
            if isinstance(values, tuple):
                object.__setattr__(self, name, tuple(self._parsed(name, value, classes) for value in values))
        if self.progressive:
            grown = self._parsed("progressive", self.progressive, {"ProgressiveSchedule": ProgressiveSchedule})
            object.__setattr__(self, "progressive", grown)

    def _parsed(self, name, value, classes):
        if not isinstance(value, str):
            return value
        try:
            return parse(value, classes)
        except ValueError as error:
            raise ValueError(f"{name} must be objects, or text that spells them; got {value!r}: {error}") from None

    def _check_combinations(self):
        if self.batch_size % self.accumulate:
            self._refuse("accumulate", f"a divisor of batch_size={self.batch_size}")
        if self.accumulate > 1 and getattr(losses.get(self.loss), "couples_batch", False):
            self._refuse("accumulate", f'1 under loss="{self.loss}", which averages over the whole batch')
        if self.update == "simultaneous" and (self.generator_steps > 1 or self.accumulate > 1):
            self._refuse("update", "alternating with generator_steps > 1 or accumulate > 1")
        if self.unroll_steps and self.accumulate > 1:
            self._refuse("unroll_steps", "0 with accumulate > 1")
        if self.unroll_steps and self.optimizer == "rmsprop":
            self._refuse("unroll_steps", "0 with optimizer='rmsprop': only adam and sgd can be differentiated through")
        if self.augment_target and not self.augment:
            self._refuse("augment_target", "0 without augment")
        if not isinstance(self.compile, bool) and self.compile not in MODES:
            self._refuse("compile", f"True, False or one of {', '.join(MODES)}")
        if self.compile:
            self._check_compile()
        self._check_schedules()

    def _check_compile(self):
        reasons = {
            "unroll_steps > 0: the generator differentiates through the critic's updates": self.unroll_steps,
            "augment_target: the compiled loss does not return the logits": self.augment_target,
            "progressive: each level would be compiled again": self.progressive,
        }
        for reason, holds in reasons.items():
            if holds:
                self._refuse("compile", f"False with {reason}")
        for schedule in self.schedules:
            of = getattr(schedule, "field", "")
            name, _, field = of.partition(".")
            for term in self._terms():
                if type(term).__name__ == name and field not in getattr(term, "factors", ()):
                    self._refuse("compile", f"False with a schedule of {of}: each step would be compiled")

    def _check_schedules(self):
        """A schedule moves from one end to the other, and each field allows an interval: the ends are checked."""
        for schedule in self.schedules:
            if not isinstance(schedule, Schedule):
                self._refuse("schedules", "a tuple of Schedules, or of their text")
            try:
                own = self.value_of(schedule.field)
            except (AttributeError, KeyError, IndexError, ValueError, TypeError):
                raise ValueError(
                    f"schedules: {schedule.field!r} is not a number that may change in this recipe; use a field"
                    ' ("generator_lr"), a tuple\'s entry ("betas.1") or a penalty\'s field ("R1.gamma")'
                ) from None
            for value in (own if schedule.start is None else schedule.start, schedule.to):
                try:
                    unscheduled = replace(_changed(self, schedules=()))
                    unscheduled._with(schedule.field, value, replace)
                except (ValueError, TypeError) as error:
                    raise ValueError(
                        f"schedules: {schedule.field} reaches {value!r}, which the recipe does not allow: {error}"
                    ) from None
            if schedule.field == "augment_target" and not self.augment_target:
                raise ValueError("schedules: augment_target must be above 0 in the recipe to change; got 0")

    def _refuse(self, name, allowed):
        raise ValueError(f"{name} must be {allowed}; got {getattr(self, name)!r}")

    def at(self, step: int) -> "Recipe":
        """The recipe at a step, with the values of its schedules."""
        schedules = cast(tuple[Schedule, ...], self.schedules)  # the annotated type is the flag's
        return self.with_values({s.field: s(self.value_of(s.field), step) for s in schedules})

    def discriminator_steps_at(self, step: int) -> int:
        """Updates of the critic in step number `step`."""
        burst, first, every = self.discriminator_burst
        in_burst = burst and (step < first or (every and step % every == 0))
        return burst if in_burst else self.discriminator_steps

    def discriminator_updates_before(self, step: int) -> int:
        """Updates of the critic in all steps before step number `step`, in closed form."""
        burst, first, every = self.discriminator_burst
        bursts = min(step, first)
        if every and step > first:
            bursts += -(-step // every) - -(-first // every)  # multiples of `every` from `first` on
        return (
            self.discriminator_steps * step + (burst - self.discriminator_steps) * bursts
            if burst
            else (self.discriminator_steps * step)
        )

    def with_values(self, values: dict[str, Any]) -> "Recipe":
        """A copy in which the fields of schedules, as Schedule.field names them, have these values, unchecked."""
        recipe = self
        for field, value in values.items():
            recipe = recipe._with(field, value, _changed)
        return recipe

    def value_of(self, field: str) -> float:
        """The number that a schedule changes. Errors: of many kinds, for what is not a fractional number."""
        name, _, rest = field.partition(".")
        if rest.isdigit():
            return float(getattr(self, name)[int(rest)])
        holder: Any = {type(p).__name__: p for p in self._terms()}[name] if rest else self
        kinds = {f.name: f.type for f in dataclasses.fields(holder)}
        if kinds[rest or name] not in (float, "float"):
            raise TypeError(f"{field} is not a float")
        return float(getattr(holder, rest or name))

    def _with(self, field, value, replace):
        """A copy with another value. replace: dataclasses.replace, which checks the value, or `_changed`."""
        name, _, rest = field.partition(".")
        if not rest:
            return replace(self, **{name: value})
        if rest.isdigit():
            values = list(getattr(self, name))
            values[int(rest)] = value
            return replace(self, **{name: tuple(values)})
        changed = {
            key: tuple(replace(p, **{rest: value}) if type(p).__name__ == name else p for p in getattr(self, key))
            for key in ("penalties", "generator_terms")
        }
        return replace(self, **changed)

    def _terms(self):
        return (*self.penalties, *self.generator_terms)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for YAML and JSON; objects as the text that from_dict reads."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The inverse of as_dict. Errors: ValueError for a field that is unknown or wrong."""
        fields = {field.name: field.type for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - set(fields)):
            raise ValueError(f"a recipe has no field {', '.join(unknown)}; it has {', '.join(fields)}")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        for key, kind in fields.items():
            if kind is float and isinstance(values.get(key), str):  # YAML takes 1e-4 (no point) for text
                values[key] = float(values[key])
        return cls(**values)

    def save(self, path: str | Path) -> None:
        """Write the recipe as YAML."""
        write_mapping(path, self.as_dict())

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Errors: ValueError with the path for what is not a recipe."""
        values = read_mapping(path)
        try:
            return cls.from_dict(values)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: {error}") from None


def _changed(record, **values):
    """A copy of a frozen dataclass with other values, unchecked: the values of schedules are checked at their ends."""
    copy = object.__new__(type(record))
    vars(copy).update(vars(record), **values)
    return copy


def _is_integer(value):
    return isinstance(value, Integral) and not isinstance(value, bool)


def _in_unit_interval(value):
    return is_number(value) and 0 <= value < 1


def _plain(value):
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if dataclasses.is_dataclass(value):
        return repr(value)
    return getattr(value, "__name__", type(value).__name__) if callable(value) else value
