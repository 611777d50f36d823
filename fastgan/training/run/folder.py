"""What lies where in the folder of a run, and who may write there."""

import fcntl
import json
import os
import shutil
import socket
import time
from contextlib import contextmanager
from pathlib import Path

from fastgan.atomic_file import sweep
from fastgan.training.run import checkpoint


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

    def samples_at(self, step):
        return self.path / "samples" / f"step_{step:08d}.png"

    def attention_maps_at(self, step):
        return self.path / "attention_maps" / f"step_{step:08d}.png"

    def find(self, resume, exist_ok=False):
        """The checkpoint to go on from, or None for a new run. Nothing is written.

        A folder holds a run when it has a checkpoint: a run that ended before its first one can be begun again.
        resume: True, False, or "auto": go on if there is a checkpoint, else begin. exist_ok: begin a new run in place
        of the old one. Errors: ValueError, FileNotFoundError, FileExistsError.
        """
        if resume not in (True, False, "auto"):
            raise ValueError(f'resume must be True, False or "auto"; got {resume!r}')
        found = checkpoint.latest(self.checkpoints)
        if resume is True and found is None:
            raise FileNotFoundError(f"{self.path}: has no checkpoint to resume from; begin the run without resume")
        if not resume and found is not None and not exist_ok:
            raise FileExistsError(f"{self.path}: holds a run already; resume it, or choose another folder")
        return found if resume else None

    def clear(self):
        """Remove the checkpoints of the run that was there."""
        for folder in (self.checkpoints, self.best):
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
            for folder in (self.path, self.checkpoints, self.best, self.path / "samples", self.path / "attention_maps"):
                sweep(folder)
            yield


def _owner(lock):
    lock.seek(0)
    try:
        return "process {process} on {host} since {since}".format(**json.load(lock))
    except (ValueError, KeyError, TypeError):
        return "another process"
