"""The state of the run on disk."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fastgan.training.callbacks.callback import Callback
from fastgan.training.run import checkpoint

CHEAP = 0.01  # of the time: a checkpoint that costs more is written beside the training


class Checkpoints(Callback):
    """Saves the state when a checkpoint is due, and at a step at which a callback ends the run.

    A checkpoint is copied in the step. If writing cost more than a hundredth of the time since the checkpoint before,
    a thread writes the next copy. An error of the thread is raised at the next step.
    """

    def __init__(self, keep: int = 2) -> None:
        self.keep = keep

    def on_start(self, trainer: Any) -> None:
        self.saved_at = None
        self.since, self.beside = time.monotonic(), False
        self.writer = ThreadPoolExecutor(1, "fastgan-checkpoint")
        self.writing: Future[tuple[Path, float]] | None = None

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        if self.writing is not None and self.writing.done():
            self.settle(trainer)
        if trainer.checkpoint_is_due:
            self._save(trainer)

    def on_end(self, trainer: Any) -> None:
        try:
            if trainer.is_stopped and self.saved_at != trainer.state.step:
                self._save(trainer)
            self.settle(trainer)
        finally:
            self.writer.shutdown()

    def settle(self, trainer: Any) -> None:
        """Wait for the checkpoint that is being written. Errors: those of writing."""
        writing, self.writing = self.writing, None
        if writing is not None:
            path, cost = writing.result()
            self._judge(cost)
            trainer.wrote(path)

    def _save(self, trainer):
        state = trainer.whole_state()  # never a checkpoint that cannot be gone on from
        self.settle(trainer)
        self.saved_at = state.step
        taken = checkpoint.snapshot(state, trainer.recipe)
        self.between, self.since = time.monotonic() - self.since, time.monotonic()
        self.writing = self.writer.submit(_write, taken, trainer.folder.checkpoints, self.keep)
        if not self.beside or trainer.state.step == trainer.steps:
            self.settle(trainer)

    def _judge(self, cost):
        self.beside = cost > CHEAP * self.between


def _write(taken, folder, keep):
    begin = time.monotonic()
    return checkpoint.write(taken, folder, keep), time.monotonic() - begin
