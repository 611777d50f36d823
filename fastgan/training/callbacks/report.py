"""The page of a run, and what the page says of the machine."""

import json
import platform
import time
import warnings
from typing import Any

import torch

import fastgan
from fastgan.atomic_file import replacing
from fastgan.training.callbacks.callback import Callback
from fastgan.training.distributed import is_sharded


class NoReport(UserWarning):
    """The page of a run could not be written. The run itself is whole."""


class Report(Callback):
    """environment.json at the start, report.html at the end, of a run that failed, too. A failed page is a warning."""

    def __init__(self, page: bool = True) -> None:
        """page: whether to write report.html."""
        self.page = page

    def on_start(self, trainer: Any) -> None:
        self.first = trainer.state.step
        with replacing(trainer.folder.environment) as unfinished:
            unfinished.write_text(json.dumps(environment(trainer.device), indent=1))

    def on_end(self, trainer: Any) -> None:
        if not self.page or trainer.state.step == self.first:
            return
        if any(is_sharded(parameter) for parameter in trainer.state.average.parameters()):
            return  # the run failed, and the other processes do not send their parts
        try:
            fastgan.report.save_report(trainer, trainer.folder.report)  # by name: see docs/house.md
        except Exception as error:
            reason = " ".join(str(error).split())
            warnings.warn(f"{trainer.folder.report.name} is not written: {reason:.200}", NoReport, stacklevel=2)


def environment(device: torch.device) -> dict[str, Any]:
    """The machine and the versions of a run: name -> text or number."""
    is_gpu = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if is_gpu else str(device),
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if is_gpu else None,
        "fastgan": fastgan.__version__,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
