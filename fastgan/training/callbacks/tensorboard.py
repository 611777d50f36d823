"""The numbers and pictures of a run for TensorBoard."""

from pathlib import Path
from typing import Any

from fastgan.extras import require
from fastgan.training.callbacks.callback import Callback


class TensorBoard(Callback):
    """Trainer(callbacks=[TensorBoard()]): the log's numbers as scalars, the run's pictures as images.

    log_dir: None for the folder "tensorboard" in the run's folder. `tensorboard --logdir RUN_DIR` shows them.
    Errors: ModuleNotFoundError without the package tensorboard, before the first step.
    """

    def __init__(self, log_dir: str | Path | None = None) -> None:
        self.log_dir = log_dir
        require("tensorboard")

    def on_start(self, trainer: Any) -> None:
        folder = self.log_dir or trainer.folder.path / "tensorboard"
        # A killed run may have written rows of later steps. The resumed run writes them again: drop the old ones.
        writer = require("torch.utils.tensorboard").SummaryWriter
        self.writer = writer(str(folder), purge_step=trainer.state.step + 1)

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)):
                self.writer.add_scalar(name, value, trainer.state.step)

    def on_file(self, trainer: Any, path: Path) -> None:
        if Path(path).suffix == ".png":
            with require("PIL.Image").open(path) as image:
                pixels = require("numpy").asarray(image.convert("RGB"))
            self.writer.add_image(Path(path).parent.name, pixels, trainer.state.step, dataformats="HWC")

    def on_end(self, trainer: Any) -> None:
        self.writer.close()
