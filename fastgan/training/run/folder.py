"""What lies where in the folder of a run, and who may write there."""

import fcntl
import json
import os
import shutil
import socket
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

from fastgan.atomic_file import sweep
from fastgan.training.run import checkpoint


class SkippedCheckpoint(UserWarning):
    """A run does not go on from its newest checkpoint, which is damaged."""


class RunFolder:
    def __init__(self, path):
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.setup = self.path / "setup.yaml"  # data and model, as far as the recipe does not hold them
        self.metrics = self.path / "metrics.jsonl"
        self.evaluations = self.path / "evaluations.jsonl"  # by `fastgan evaluate`
        self.findings = self.path / "findings.txt"  # what seems wrong at the newest observation
        self.environment = self.path / "environment.json"  # the machine and the versions, at the newest `fit`
        self.report = self.path / "report.html"
        self.curves = self.path / "curves.png"
        self.real = self.path / "real.png"
        self.samples = self.path / "samples.png"  # the newest of:
        self.attention_maps = self.path / "attention_maps.png"  # the newest, where the networks attend
        self.best = self.path / "best"  # the best checkpoint so far by what the run stops for
        self.checkpoints = self.path / "checkpoints"
        self.post_mortem = self.path / "post_mortem"  # the state that diverged, for a look: nothing goes on from it

    def samples_at(self, step):
        return self.path / "samples" / f"step_{step:08d}.png"

    def attention_maps_at(self, step):
        return self.path / "attention_maps" / f"step_{step:08d}.png"

    def find(self, resume, exist_ok=False):
        """The checkpoint to go on from, the newest whole one, or None for a new run. Nothing is written.

        A folder holds a run when it has a checkpoint: a run that ended before its first one can be begun again.
        resume: True, False, or "auto": go on if there is a checkpoint, else begin. exist_ok: begin a new run in place
        of the old one. Errors: ValueError, FileNotFoundError, FileExistsError.
        """
        if resume not in (True, False, "auto"):
            raise ValueError(f'resume must be True, False or "auto"; got {resume!r}')
        found, damaged = checkpoint.newest_whole(self.checkpoints)
        if resume and damaged:
            names = ", ".join(path.name for path in damaged)
            warnings.warn(
                f"{found}: is taken, the newest checkpoint that is whole; {names}: damaged, and set aside",
                SkippedCheckpoint,
                stacklevel=4,
            )
        if resume is True and found is None:
            raise FileNotFoundError(f"{self.path}: has no checkpoint to resume from; begin the run without resume")
        if not resume and found is not None and not exist_ok:
            raise FileExistsError(f"{self.path}: holds a run already; resume it, or choose another folder")
        return found if resume else None

    def clear(self):
        """Remove the checkpoints of the run that was there."""
        for folder in (self.checkpoints, self.best, self.post_mortem):
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def held(self):
        """The folder is this process's inside the block: made, locked, and free of what killed runs left unfinished.

        Errors: FileExistsError if another run has it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileExistsError(
                    f"{self.path}: is in use by {_owner(lock)}; wait, or choose another folder"
                ) from None
            lock.truncate(0)
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            lock.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}))
            lock.flush()
            kept = (self.checkpoints, self.best, self.post_mortem)
            for folder in (self.path, *kept, self.path / "samples", self.path / "attention_maps"):
                sweep(folder)
            yield


def _owner(lock):
    lock.seek(0)
    try:
        return "process {process} on {host} since {since}".format(**json.load(lock))
    except (ValueError, KeyError, TypeError):
        return "another process"
