"""How a run is kept and shown: what the recipe does not hold, since the trained networks do not depend on it."""

from dataclasses import dataclass, fields
from typing import Literal, TypedDict


@dataclass(frozen=True)
class RunOptions:
    """How the run is logged, kept and shown."""

    log_every: int = 50
    """Steps from one line of metrics.jsonl to the next."""

    sample_every: int = 500
    """Steps from one picture of samples, and one observation, to the next."""

    checkpoint_every: int = 1000
    """Steps from one checkpoint to the next."""

    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept."""

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
            counts = field.type is int or (field.name == "evaluate_every" and value is not None)
            if counts and not (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
                raise ValueError(f"{field.name} must be at least 1; got {value!r}")
        if self.evaluate_every is not None and self.extractor is None:
            raise ValueError(
                "evaluate_every needs an extractor: inception:FILE, torchvision:NAME, module:function, or fashion-cnn"
                " for garments"
            )


class Options(TypedDict, total=False):
    """The fields of RunOptions as arguments of the Trainer, for a type checker."""

    log_every: int
    sample_every: int
    checkpoint_every: int
    keep_checkpoints: int
    stop_when: Literal["plateau", "gap", "wasserstein", "never"]
    evaluate_every: int | None
    evaluate_count: int
    extractor: str | None
    cuda_graphs: bool | None
    report: bool
    progress: bool
