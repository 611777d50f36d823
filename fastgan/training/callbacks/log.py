"""The lines of the log."""

import time
from typing import Any

from fastgan.training.callbacks.callback import Callback
from fastgan.training.run.metrics_log import MetricsLog


class Log(Callback):
    """Writes metrics.jsonl: every so many steps the means since the last time and the speed; observations when they
    come. Completes the row for the callbacks after it; trainer.rows holds all rows of the run."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_start(self, trainer: Any) -> None:
        self.file = MetricsLog(trainer.folder.metrics, trainer.state.step, trainer.state.rollbacks)
        trainer.rows = self.file.rows
        self.since = (trainer.state.step, time.perf_counter())

    def on_rollback(self, trainer: Any, error: Exception) -> None:
        """The lines after the checkpoint go, and one line says why. `rollback` counts them."""
        self.file = MetricsLog(trainer.folder.metrics, trainer.state.step, trainer.state.rollbacks)
        trainer.rows = self.file.rows
        self.since = (trainer.state.step, time.perf_counter())
        self.file.write(step=trainer.state.step, rollback=trainer.state.rollbacks, diverged=str(error))

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        due, step = trainer.is_due(self.every), trainer.state.step
        if not (due or row):
            return
        seen, numbers = dict(row), {}
        if due:
            numbers, now = trainer.means.take(), time.perf_counter()
            numbers["steps_per_second"] = round((step - self.since[0]) / (now - self.since[1]), 3)
            self.since = (step, now)
        row.clear()
        row.update(step=step, **numbers, **seen)
        self.file.write(**row)
