"""A look at the networks every so many steps, and what seems wrong."""

from fastgan.atomic_file import replacing
from fastgan.monitor import findings, is_best, plateau
from fastgan.monitor.observer import Watch
from fastgan.training.run import checkpoint
from fastgan.training.run.callback import Callback
from fastgan.training.run.metrics_log import read_metrics


class Observations(Callback):
    """Adds the numbers of an observation to the row of the log. stop: a monitor.stop.Stop with numbers of its own."""

    def __init__(self, every, stop=None):
        self.every, self.stop = every, stop

    def on_start(self, trainer):
        self.watch = Watch(trainer.recipe, trainer.data, trainer.state)

    def on_step(self, trainer, row):
        if trainer.is_due(self.every):
            trainer.check()
            seen = self.watch(trainer.state)
            if seen and self.stop is not None:
                seen |= self.stop.measure(trainer.state)
            row.update(seen)


class Findings(Callback):
    """Reads the log after an observation: what seems wrong goes to findings.txt; ends a run that gets no better."""

    def __init__(self, every, stop=None):
        self.every, self.stop = every, stop

    def on_step(self, trainer, row):
        if not (trainer.is_due(self.every) and any(name.startswith("watch_") for name in row)):
            return
        rows = read_metrics(trainer.folder.metrics)
        trainer.findings = findings(rows)
        if self.stop is not None:
            if is_best(rows, self.stop.series):
                checkpoint.save(trainer.state, trainer.folder.best, trainer.recipe, keep=1)
            if (best := plateau(rows, self.stop.series)) is not None:
                trainer.stop(best)
        with replacing(trainer.folder.findings) as unfinished:
            unfinished.write_text("".join(f"{finding}\n" for finding in trainer.findings))
