"""A run that is watched in a notebook."""

import base64
import sys
import time
from pathlib import Path
from typing import Any

from fastgan.extras import require
from fastgan.figures import save_curves
from fastgan.training.callbacks.callback import Callback

SECONDS = 5  # between two drawings of the curves at least


def in_notebook() -> bool:
    """Whether the process is an IPython kernel."""
    return "ipykernel" in sys.modules


class Notebook(Callback):
    """The curves and the newest samples under the cell, redrawn as the run goes on. Trainer adds one in a notebook."""

    def on_start(self, trainer: Any) -> None:
        self.display = require("IPython.display", "notebook")
        self.shown = self.display.display(self.display.HTML("<p>The first samples come soon.</p>"), display_id=True)
        self.drawn_at = time.monotonic()

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        if row and time.monotonic() - self.drawn_at >= SECONDS:
            save_curves(trainer.rows, trainer.folder.curves)
            self._draw(trainer)

    def on_file(self, trainer: Any, path: Path) -> None:
        if Path(path).suffix == ".png":
            self._draw(trainer)

    def on_end(self, trainer: Any) -> None:
        self._draw(trainer)

    def _draw(self, trainer):
        pictures = {"Curves": trainer.folder.curves, "Samples": trainer.folder.samples}
        parts = [_picture(title, path, trainer.state.step) for title, path in pictures.items() if path.exists()]
        self.shown.update(
            self.display.HTML(f'<div style="display: flex; flex-wrap: wrap; gap: 16px">{"".join(parts)}</div>')
        )
        self.drawn_at = time.monotonic()


def _picture(title, path, step):
    source = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<img src="data:image/png;base64,{source}" alt="{title} at step {step}" style="max-width: 480px; width: 100%">'
    )
