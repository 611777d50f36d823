"""The state of the run on disk."""

from typing import Any

from fastgan.training.callbacks.callback import Callback
from fastgan.training.run import checkpoint


class Checkpoints(Callback):
    """Saves the state every so many steps, and at a step at which a callback ends the run."""

    def __init__(self, every: int, keep: int = 2) -> None:
        self.every, self.keep = every, keep

    def on_start(self, trainer: Any) -> None:
        self.saved_at = None

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        if trainer.is_due(self.every):
            self._save(trainer)

    def on_end(self, trainer: Any) -> None:
        if trainer.is_stopped and self.saved_at != trainer.state.step:
            self._save(trainer)

    def _save(self, trainer):
        trainer.check()  # never a checkpoint that cannot be gone on from
        self.saved_at = trainer.state.step
        trainer.wrote(checkpoint.save(trainer.state, trainer.folder.checkpoints, trainer.recipe, self.keep))
