"""A look at the networks every so many steps, and what seems wrong."""

from fastgan.atomic_file import replacing
from fastgan.monitor import findings
from fastgan.monitor.observer import Watch
from fastgan.training.callbacks.callback import Callback
from fastgan.training.run import checkpoint


class Observations(Callback):
    """Adds the numbers of an observation to the row of the log.

    stop: a monitor.stop.Stop with numbers of its own. features: of the distance from real samples, see Watch.
    """

    def __init__(self, every, stop=None, features=None):
        self.every, self.stop, self.features = every, stop, features

    def on_start(self, trainer):
        self.watch = Watch(trainer.recipe, trainer.data, trainer.state, self.features)
        log = trainer.state.log
        if (before := log.get("watch_before")) is not None and self.watch.before is not None:
            self.watch.before, self.watch.step = before.to(self.watch.device), log["watch_step"]
        self._note(trainer)

    def on_rollback(self, trainer, error):
        self.on_start(trainer)

    def on_step(self, trainer, row):
        if trainer.is_due(self.every):
            trainer.check()
            seen = self.watch(trainer.state)
            if "watch_auc" in seen and self.stop is not None:
                seen |= self.stop.measure(trainer.state)
            row.update(seen)
            self._note(trainer)

    def _note(self, trainer):
        """For checkpoints: a run that goes on sees the same movement since the observation before."""
        if self.watch.before is not None:
            trainer.state.log |= {"watch_before": self.watch.before, "watch_step": self.watch.step}


class Best(Callback):
    """Keeps the state of the lowest value of the criterion's series; ends a run that gets no better."""

    def __init__(self, stop):
        self.stop = stop

    def on_step(self, trainer, row):
        if self.stop.series.value not in row:
            return
        if self.stop.is_best(trainer.rows):
            checkpoint.save(trainer.whole_state(), trainer.folder.best, trainer.recipe, keep=1)
        if (best := self.stop.ended(trainer.rows)) is not None:
            trainer.stop(best)


class Findings(Callback):
    """Reads the log after an observation: what seems wrong goes to findings.txt."""

    def __init__(self, every):
        self.every = every

    def on_step(self, trainer, row):
        if not (trainer.is_due(self.every) and any(name.startswith("watch_") for name in row)):
            return
        trainer.findings = findings(trainer.rows, trainer.recipe)
        with replacing(trainer.folder.findings) as unfinished:
            unfinished.write_text("".join(f"{finding}\n" for finding in trainer.findings))
