"""How a run is kept and shown: what the recipe does not hold, since the trained networks do not depend on it."""

import re
from dataclasses import dataclass, fields
from typing import Literal, TypedDict


@dataclass(frozen=True)
class RunOptions:
    """How the run is logged, kept and shown."""

    log_every: int = 50
    """Steps from one line of metrics.jsonl to the next."""

    sample_every: int = 500
    """Steps from one picture of samples, and one observation, to the next."""

    checkpoint_every: int | str = 1000
    """Steps from one checkpoint to the next, or the time between them: "30s", "10min", "2h"."""

    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept; the best one is kept beside them, in best/."""

    on_divergence: Literal["stop", "rollback"] = "stop"
    """When a number, a gradient or a weight is no longer finite: end the run, or go on from the newest checkpoint with
    other random numbers and halved learning rates. The state that diverged is kept in post_mortem/."""

    rollbacks: int = 3
    """How often a run goes back before its next divergence ends the run."""

    stop_when: Literal["plateau", "gap", "wasserstein", "never"] = "never"
    """Stop before `steps` when a number has stopped falling; best/ in the run's folder holds the state of the lowest
    number. "plateau": FID if evaluate_every is given, else the samples' distance from real ones; "gap": the duality
    gap, at a cost of 300 updates every sample_every steps; "wasserstein": the critic's estimate of that distance.
    "never": best/ holds the state of the lowest FID if evaluate_every is given, else there is none."""

    evaluate_every: int | None = None
    """Steps from one FID of the averaged generator's images to the next: `fid` in metrics.jsonl. Needs extractor."""

    evaluate_count: int = 10_000
    """How many images of each side an FID is measured on, or all real ones if there are fewer."""

    extractor: str | None = None
    """Features of images for FID and for "plateau": fashion-cnn, inception:FILE, torchvision:NAME or module:function,
    as for `fastgan evaluate`. By default "plateau" uses fixed random filters, which suit images of any kind."""

    report: bool = True
    """Write report.html at the end: one page with curves, samples, findings and what the generator has learned."""
    cuda_graphs: bool | None = None
    """Replay the gradients of each update as a CUDA graph. The numbers are those of eager updates. Python code in
    networks and terms (counters, hooks) runs in the first updates only. None: on a GPU, if the recipe can; True: refuse
    a recipe or a device that cannot."""

    progress: bool = True
    """Show the progress on stderr: a bar in a terminal and in a notebook, plain lines elsewhere."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            optional = field.name == "evaluate_every" and value is not None
            steps = field.name == "checkpoint_every" and not isinstance(value, str)
            counts = field.type is int or optional or steps
            if counts and not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
                raise ValueError(f"{field.name} must be at least 1; got {value!r}")
        if isinstance(self.checkpoint_every, str):
            seconds(self.checkpoint_every)
        if self.on_divergence not in ("stop", "rollback"):
            raise ValueError(f'on_divergence must be "stop" or "rollback"; got {self.on_divergence!r}')
        if self.evaluate_every is not None and self.extractor is None:
            raise ValueError(
                "evaluate_every needs an extractor: inception:FILE, torchvision:NAME, module:function, or fashion-cnn"
                " for garments"
            )


def seconds(text: str) -> float:
    """The time that "30s", "10min" or "1.5h" says. Errors: ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h)", text)
    if not found or float(found[1]) <= 0:
        raise ValueError(
            f'checkpoint_every must be a number of steps, or a time such as "30s", "10min", "2h"; got {text!r}'
        )
    return float(found[1]) * {"s": 1, "min": 60, "h": 3600}[found[2]]


class Options(TypedDict, total=False):
    """The fields of RunOptions as arguments of the Trainer, for a type checker."""

    log_every: int
    sample_every: int
    checkpoint_every: int | str
    keep_checkpoints: int
    on_divergence: Literal["stop", "rollback"]
    rollbacks: int
    stop_when: Literal["plateau", "gap", "wasserstein", "never"]
    evaluate_every: int | None
    evaluate_count: int
    extractor: str | None
    cuda_graphs: bool | None
    report: bool
    progress: bool
