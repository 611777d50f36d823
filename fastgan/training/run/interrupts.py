"""Ctrl-C and the signals of schedulers and lost terminals: a run ends after the step that it is in."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A run ended at a signal, with a checkpoint of its last whole step."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"{signal.Signals(number).name} at step {step}")
        self.signal, self.step = number, step


class Asked:
    """`signal` is the first signal that came, None before."""

    signal = None

    def __call__(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt  # the second one: leave at once
        self.signal = number


@contextmanager
def asked_to_stop() -> Iterator[Asked]:
    """Yields an Asked. Signals inside the block are noted there; outside of the main thread none are caught."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, asked)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
