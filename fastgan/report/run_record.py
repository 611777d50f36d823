"""What a run left in its folder, read for the report: a missing or damaged part costs that part alone."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from fastgan.data import data_source
from fastgan.monitor import findings
from fastgan.report.views import Views, views
from fastgan.training import Recipe, load_generator
from fastgan.training.recipe import presets
from fastgan.training.run import checkpoint, setup_file
from fastgan.training.run.folder import RunFolder

JUDGED = 400  # observations at which the findings are computed; of more, every second, third, ... is left out
RATES = 200  # points of a schedule's curve
SECONDS_OF_A_RUN, SECONDS_OF_A_COMMAND = 1.5, 60.0  # for what the generator shows, at the end of a run and later


class Held(NamedTuple):
    """A finding of the monitor, and the steps from which to which it held."""

    name: str
    first: int
    last: int
    text: str


@dataclass(frozen=True)
class Record:
    """A run as the report shows the run.

    recipe: field -> value. origin, paper: the named recipe that the run started from. changed: field -> (value in the
    named recipe, value of the run). rows: of metrics.jsonl. rates: (step, generator_lr, discriminator_lr).
    pictures: (step, path) of the samples over time. missing: name of a section -> a sentence, why it is not there.
    """

    title: str
    recipe: dict[str, Any] = field(default_factory=dict)
    origin: str = ""
    paper: str = ""
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    rates: list[tuple[int, float, float]] = field(default_factory=list)
    findings: list[Held] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[tuple[int, Path]] = field(default_factory=list)
    real: Path | None = None
    views: Views = field(default_factory=Views)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def last_step(self) -> int:
        return max((row["step"] for row in self.rows), default=0)


def record(run: Any, *, draw: bool = True) -> Record:
    """The record of a run. run: the folder of a run, a Trainer, or a Record, which is returned.

    draw: load the generator from the newest checkpoint (of a Trainer: use the average), for the walk, the nearest
    training images and the attention map. Errors: FileNotFoundError if the folder holds nothing of a run.
    """
    if isinstance(run, Record):
        return run
    folder = getattr(run, "folder", None) or RunFolder(run)
    found = _Reader(folder)
    if not draw:
        return found.record
    if hasattr(run, "state"):
        return found.with_views(lambda: (run.state.average, run.state.step, run.data), SECONDS_OF_A_RUN)
    if checkpoint.latest(folder.checkpoints) is None:
        found.missing["generator"] = "The run has no checkpoint to draw images from."
    elif not folder.setup.exists():
        found.missing["generator"] = (
            "The networks are not of fastgan.models, so only the page that training writes shows what they draw."
        )
    else:
        return found.with_views(lambda: _loaded(folder, found.flags), SECONDS_OF_A_COMMAND)
    return found.record


def _loaded(folder, flags):
    """-> generator, step, data or the sentence why there are none"""
    run = load_generator(folder.path)
    try:
        return run.generator, run.step, _data(flags, run.model)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        return run.generator, run.step, f"The run's data cannot be read: {_line(error)}."


def _data(flags, model):
    if flags.get("data") is None:
        raise ValueError("the run's folder does not name its data")
    size = {name: model.get(name) for name in ("resolution", "channels")}
    source, reading = data_source.recorded(flags["data"]), data_source.Reading.of(flags)
    return data_source.load(source, **size, skip_broken=bool(flags.get("skip_broken", False)), reading=reading)


class _Reader:
    """Reads part by part; each part that cannot be read leaves a sentence in `missing`."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.missing: dict[str, str] = {}
        known = (folder.recipe, folder.metrics, folder.checkpoints, folder.setup)
        if not any(path.exists() for path in known):
            raise FileNotFoundError(f"{folder.path}: holds no run: give the folder of a run, as --run-dir named it")
        setup = self._part("setup", lambda: setup_file.load(folder.setup) if folder.setup.exists() else ({}, {}))
        self.flags: dict[str, Any] = setup[0] if setup else {}
        recipe = self._part("recipe", lambda: Recipe.load(folder.recipe), folder.recipe, "The run has no recipe.yaml.")
        rows = self._rows(folder.metrics, "curves")
        origin = self.flags.get("recipe")
        named = presets.RECIPES.get(origin) if isinstance(origin, str) else None
        self.record = Record(
            title=folder.path.resolve().name,
            recipe=recipe.as_dict() if recipe else {},
            origin=str(origin) if named else "",
            paper=named.paper if named else "",
            changed=_changed(named.settings.as_dict(), recipe.as_dict()) if named and recipe else {},
            model=setup[1] if setup else {},
            data=str(self.flags.get("data") or ""),
            environment=self._environment(),
            rows=rows,
            rates=_rates(recipe, rows) if recipe else [],
            findings=self._part("findings", lambda: held(rows, recipe)) or [],
            evaluations=self._rows(folder.evaluations, "evaluations") if folder.evaluations.exists() else [],
            pictures=_pictures(folder.samples_at(0).parent),
            real=folder.real if folder.real.exists() else None,
            missing=self.missing,
        )
        if not rows:
            self.missing.setdefault("curves", "The log has no line yet, so the page has no curves.")
        if not self.record.pictures:
            self.missing["samples"] = "The run has drawn no samples."
        if rows and not any("watch_auc" in row for row in rows):
            self.missing["findings"] = "The monitors have not looked at this run: it has no observation yet."

    def with_views(self, load: Callable[[], tuple[nn.Module, int, Any]], patience: float) -> Record:
        """The record with what the generator shows. patience: seconds for that, about."""
        loaded = self._part("generator", load)
        if loaded is None:
            return self.record
        generator, step, data = loaded
        seed = self.record.recipe.get("seed", 0)
        drawn = self._part("generator", lambda: views(generator, step, data, seed, patience))
        if drawn is None:
            return self.record
        self.missing.update(drawn.missing)
        return replace(self.record, views=drawn)

    def _part(self, name, read, path=None, absent=""):
        if path is not None and not path.exists():
            self.missing[name] = absent
            return None
        try:
            return read()
        except Exception as error:  # a report shows what there is, whatever is wrong with the rest
            self.missing[name] = f"{name.capitalize()}: not shown, since {_line(error)}."
            return None

    def _environment(self):
        path = self.folder.environment
        absent = "The run's folder does not say on what machine the run was made."
        found = self._part("environment", lambda: json.loads(path.read_text()), path, absent)
        return found if isinstance(found, dict) else {}

    def _rows(self, path, section):
        """The lines that can be read, by step; what cannot is counted."""
        rows, damaged = [], []
        for number, line in enumerate(path.read_bytes().split(b"\n") if path.exists() else (), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
            else:
                damaged.append(number)
        if damaged:
            more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
            self.missing[section] = f"Line {damaged[0]}{more} of {path.name} cannot be read. The page is without it."
        return rows


def held(rows: list[dict[str, Any]], recipe: Recipe | None) -> list[Held]:
    """When each finding held, by its first step: one entry for each stretch of observations without a gap."""
    newest: dict[str, Any] = {}
    seen = []
    for row in rows:
        newest |= {key: row[key] for key in row if key.endswith("_gradient_norm") and not key.startswith("watch_")}
        if "watch_auc" in row or "watch_not_finite" in row:
            seen.append(newest | row)
    stretches: list[Held] = []
    open_now: dict[str, int] = {}  # name -> index of its stretch
    every = math.ceil(len(seen) / JUDGED) or 1
    for end in sorted({*range(every, len(seen) + 1, every), len(seen)} - {0}):
        step, found = seen[end - 1]["step"], findings(seen[:end], recipe)
        for finding in found:
            if finding.name not in open_now:
                open_now[finding.name] = len(stretches)
                stretches.append(Held(finding.name, step - finding.steps, step, finding.text))
            else:
                index = open_now[finding.name]
                stretches[index] = stretches[index]._replace(last=step, text=finding.text)
        open_now = {finding.name: open_now[finding.name] for finding in found}
    return sorted(stretches, key=lambda stretch: stretch.first)


def _changed(named, own):
    return {name: (named.get(name), value) for name, value in own.items() if named.get(name) != value}


def _rates(recipe, rows):
    if not rows:
        return []
    last = rows[-1]["step"]
    points = sorted({*range(0, last, max(last // RATES, 1)), last}) if recipe.schedules else [0, last]
    at = ((step, recipe.at(step)) for step in points)
    return [(step, now.generator_lr, now.discriminator_lr) for step, now in at]


def _pictures(folder: Path) -> list[tuple[int, Path]]:
    steps: Iterable[tuple[str, Path]] = ((path.stem.removeprefix("step_"), path) for path in folder.glob("step_*.png"))
    return sorted((int(step), path) for step, path in steps if step.isdigit())


def _line(error):
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
