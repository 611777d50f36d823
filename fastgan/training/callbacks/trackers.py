"""The numbers and pictures of a run for TensorBoard, Weights & Biases and MLflow."""

from pathlib import Path
from typing import Any

from fastgan.extras import require
from fastgan.training.callbacks.callback import Callback


class TensorBoard(Callback):
    """Trainer(callbacks=[TensorBoard()]): the log's numbers as scalars, pictures as images, the recipe as hparams.

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
        self.newest: dict[str, float] = {}

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, trainer.state.step)
            self.newest[name] = value

    def on_file(self, trainer: Any, path: Path) -> None:
        if Path(path).suffix == ".png":
            with require("PIL.Image").open(path) as image:
                pixels = require("numpy").asarray(image.convert("RGB"))
            self.writer.add_image(Path(path).parent.name, pixels, trainer.state.step, dataformats="HWC")

    def on_end(self, trainer: Any) -> None:
        last = {f"last/{name}": value for name, value in self.newest.items()}
        self.writer.add_hparams(settings(trainer), last, run_name=".")
        self.writer.close()


class WandB(Callback):
    """Trainer(callbacks=[WandB("my project")]): the log's numbers and pictures, and the recipe, for Weights & Biases.

    options: further arguments of wandb.init, such as name, tags, mode="offline".
    Errors: ModuleNotFoundError without the package wandb, before the first step.
    """

    def __init__(self, project: str = "fastgan", **options: Any) -> None:
        self.options = {"project": project, **options}
        self.wandb = require("wandb", extra=None)

    def on_start(self, trainer: Any) -> None:
        own = {"name": trainer.folder.path.name, "dir": str(trainer.folder.path), "config": settings(trainer)}
        self.run = self.wandb.init(**own | self.options)

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        if found := numbers(row):
            self.run.log(found, step=trainer.state.step)

    def on_file(self, trainer: Any, path: Path) -> None:
        if Path(path).suffix == ".png":
            self.run.log({Path(path).parent.name: self.wandb.Image(str(path))}, step=trainer.state.step)

    def on_end(self, trainer: Any) -> None:
        self.run.finish()


class MLflow(Callback):
    """Trainer(callbacks=[MLflow("my experiment")]): the log's numbers, the recipe, and pictures as artifacts.

    options: further arguments of mlflow.start_run, such as run_name, tags. MLflow's own settings say where runs go,
    like the environment's MLFLOW_TRACKING_URI.
    Errors: ModuleNotFoundError without the package mlflow, before the first step.
    """

    def __init__(self, experiment: str = "fastgan", **options: Any) -> None:
        self.experiment, self.options = experiment, options
        self.mlflow = require("mlflow", extra=None)

    def on_start(self, trainer: Any) -> None:
        self.mlflow.set_experiment(self.experiment)
        self.mlflow.start_run(**{"run_name": trainer.folder.path.name} | self.options)
        self.mlflow.log_params(settings(trainer))

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        if found := numbers(row):
            self.mlflow.log_metrics(found, step=trainer.state.step)

    def on_file(self, trainer: Any, path: Path) -> None:
        if Path(path).suffix == ".png":
            self.mlflow.log_artifact(str(path), Path(path).parent.name)

    def on_end(self, trainer: Any) -> None:
        self.mlflow.end_run()


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """The numbers of a row of the log."""
    return {name: value for name, value in row.items() if name != "step" and isinstance(value, int | float)}


def settings(trainer: Any) -> dict[str, str | float]:
    """The recipe and the model, as numbers and text."""
    model = (trainer.setup or {}).get("model", {})
    found = trainer.recipe.as_dict() | {f"model_{name}": value for name, value in model.items()}
    return {name: value if isinstance(value, int | float | str) else str(value) for name, value in found.items()}
