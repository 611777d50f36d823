"""What happens beside the steps of a run."""


class Callback:
    """Override what is needed. `trainer.callbacks` are called in their order, those of the Trainer itself first.

    trainer.state.step counts the steps taken, trainer.steps is where `fit` ends, trainer.values holds the numbers of
    the step as tensors on the device, trainer.folder names the files of the run. A callback ends the run by
    trainer.stop().
    """

    def on_start(self, trainer):
        """Before the first step of a `fit`."""

    def on_step(self, trainer, row):
        """After each step. row: name -> number, the line of the log; empty when the step is not logged.

        A callback of the Trainer itself may add to the row before the log writes the row.
        """

    def on_file(self, trainer, path):
        """After a picture or a checkpoint was written to this path."""

    def on_end(self, trainer):
        """After the last step of a `fit`, or after the error that ended the `fit`."""
