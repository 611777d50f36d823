"""What happens beside the steps of a run."""

from pathlib import Path
from typing import Any


class Callback:
    """Override the methods that you need. `trainer.callbacks` are called in order, those of the Trainer first.

    trainer.state.step is the number of steps taken; `fit` ends at trainer.steps. trainer.values holds the step's
    numbers as tensors on the device. trainer.folder names the files of the run. trainer.stop() ends the run.
    """

    def on_start(self, trainer: Any) -> None:
        """Before the first step of a `fit`."""

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        """After each step. row: name -> number, the line of the log; empty when the step is not logged.

        A callback of the Trainer itself may add to the row before the log writes the row.
        """

    def on_file(self, trainer: Any, path: Path) -> None:
        """After a picture or a checkpoint was written to this path."""

    def on_rollback(self, trainer: Any, error: Exception) -> None:
        """After a divergence, when the state is that of a checkpoint again. error: what diverged."""

    def on_end(self, trainer: Any) -> None:
        """After the last step of a `fit`, or after the error that ended the `fit`."""
