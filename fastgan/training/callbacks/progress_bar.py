"""How far a run is: a bar in a terminal and in a notebook, a plain line now and then elsewhere."""

import sys
import time
from typing import Any

from fastgan.extras import require
from fastgan.training.callbacks.callback import Callback

SECONDS = 10  # between plain lines


class ProgressBar(Callback):
    """Steps, the newest numbers of the log, and the first finding; once, the route of the gradient penalty."""

    def on_start(self, trainer: Any) -> None:
        self.progress = Progress(trainer.steps, trainer.state.step)
        self.said_route = False

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        self.progress.update()
        if row:
            self.progress.describe(trainer.findings[0].name if trainer.findings else "")
        if "d_loss" in row:
            numbers = "d_loss {d_loss:.3f}  g_loss {g_loss:.3f}  D(x) {d_real:.2f}  D(G(z)) {d_fake:.2f}"
            if trainer.route is not None and not self.said_route:
                self.progress.write(f"gradient penalty: {trainer.route}")
                self.said_route = True
            self.progress.numbers(numbers.format(**row))

    def on_rollback(self, trainer: Any, error: Exception) -> None:
        self.progress.go_back(trainer.state.step)
        self.progress.write(f"{error}; back to step {trainer.state.step}, rollback {trainer.state.rollbacks}")

    def on_end(self, trainer: Any) -> None:
        self.progress.close()


class Progress:
    def __init__(self, total: int, initial: int) -> None:
        self.step, self.total, self.title = initial, total, ""
        in_notebook = "ipykernel" in sys.modules
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self.bar = None
        if terminal or in_notebook:
            bar = require("tqdm.auto").tqdm
            self.bar = bar(total=total, initial=initial, unit="step", dynamic_ncols=True)
        self.plain = self.bar is None and sys.stderr is not None
        self.begin = self.last = time.monotonic()
        self.initial = initial

    def update(self) -> None:
        self.step += 1
        if self.bar is not None:
            self.bar.update()

    def go_back(self, step: int) -> None:
        self.step = self.initial = step
        self.begin = time.monotonic()
        if self.bar is not None:
            self.bar.reset(self.total)
            self.bar.update(step)

    def describe(self, title: str) -> None:
        """title: of what seems wrong, or "" """
        self.title = title
        if self.bar is not None:
            self.bar.set_description_str(title)

    def write(self, line: str) -> None:
        """A line of its own."""
        if self.bar is not None:
            self.bar.write(line, file=sys.stderr)
        elif self.plain:
            print(line, file=sys.stderr, flush=True)

    def numbers(self, text: str) -> None:
        """The newest numbers of the log."""
        if self.bar is not None:
            self.bar.set_postfix_str(text)
        now = time.monotonic()
        if self.plain and (now - self.last >= SECONDS or self.step == self.total):
            rate = (self.step - self.initial) / max(now - self.begin, 1e-9)
            title = f"  {self.title}" if self.title else ""
            print(f"step {self.step}/{self.total}  {rate:.3g} step/s  {text}{title}", file=sys.stderr, flush=True)
            self.last = now

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
