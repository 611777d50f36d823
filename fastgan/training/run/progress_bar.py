"""The progress bar on stderr."""

from fastgan.extras import require
from fastgan.training.run.callback import Callback


class ProgressBar(Callback):
    """Steps, the newest numbers of the log, and the first finding. In a notebook the bar is a widget."""

    def on_start(self, trainer):
        self.bar = require("tqdm.auto").tqdm(
            total=trainer.steps, initial=trainer.state.step, unit="step", dynamic_ncols=True
        )

    def on_step(self, trainer, row):
        self.bar.update()
        if "d_loss" in row:
            numbers = "d_loss {d_loss:.3f}  g_loss {g_loss:.3f}  D(x) {d_real:.2f}  D(G(z)) {d_fake:.2f}"
            self.bar.set_postfix_str(numbers.format(**row))
        if row:
            self.bar.set_description_str(trainer.findings[0].name if trainer.findings else "")

    def on_end(self, trainer):
        self.bar.close()
