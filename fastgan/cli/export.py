"""`fastgan export`"""

from dataclasses import dataclass
from pathlib import Path

import torch

from fastgan import export, training
from fastgan.cli.flags import mendable, parse
from fastgan.export.formats import difference
from fastgan.models import sampling

EXAMPLES = 3


@dataclass(frozen=True)
class Export:
    """Write the averaged generator of a run as one safetensors file and its config: `fastgan.load(folder)` reads them.

    `fastgan export RUN` or `fastgan export --run-dir RUN`.
    """

    run_dir: Path = Path()
    """The run's folder; or its best/, or one of its checkpoints."""

    out: Path | None = None
    """The folder to write; by default export/ in the run's folder."""

    best: bool = False
    """From the best checkpoint, which a run with --stop-when or --evaluate-every keeps."""

    onnx: bool = False
    """Also write generator.onnx, and compare its numbers with torch's if onnxruntime is installed."""

    program: bool = False
    """Also write generator.pt2 by torch.export, and compare its numbers with torch's."""

    model: str | None = None
    """Of a run with networks of your own: their module:function, named again; the folder alone does not make code
    run."""


def main(arguments: list[str]) -> None:
    if arguments and not arguments[0].startswith("-"):
        arguments = ["--run-dir", *arguments]
    flags = parse("export", Export(), arguments)
    with mendable(ValueError, TypeError, OSError):
        run = training.load_generator(flags.run_dir, best=flags.best, model=flags.model)
        folder = flags.out or run.folder.path / "export"
        export.save(run.generator, folder, run.model, run.stage)
        z = sampling.latents(run.generator, EXAMPLES, 0, "export")
        condition = _condition(run, z)
        loaded = export.load(folder, flags.model)
        again = difference(
            sampling.sample(loaded, z, condition), sampling.sample(run.generator, z, condition), f"{folder}"
        )
        print(f"{folder}: step {run.step}; fastgan.load differs from the run's generator by {again:.1g}")
        if flags.program:
            found = export.save_program(loaded, folder / "generator.pt2", z, condition)
            print(f"{folder / 'generator.pt2'}: torch.export differs from torch by {found:.1g}")
        if flags.onnx:
            compared = export.save_onnx(loaded, folder / "generator.onnx", z, condition)
            says = "is not installed" if compared is None else f"differs from torch by {compared:.1g}"
            print(f"{folder / 'generator.onnx'}: onnxruntime {says}")
        print(f"{export.write_card(run, folder, flags.model)}: the model card")


def _condition(run, z):
    """Labels in turn, or source images of noise for a generator that translates images, or None."""
    if sampling.takes_source(run.generator):
        channels, side = run.model.get("source_channels", 1), run.model["resolution"]
        return torch.randn(len(z), channels, side, side, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    return sampling.labels_in_turn(run.generator, len(z))
