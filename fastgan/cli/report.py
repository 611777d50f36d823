"""`fastgan report`"""

from dataclasses import dataclass
from pathlib import Path

from fastgan.cli.flags import mendable, parse
from fastgan.report import record, save_report


@dataclass(frozen=True)
class Report:
    """Write one HTML page of a run, or of several runs side by side: `fastgan report RUN [RUN ...]`."""

    runs: tuple[Path, ...] = ()
    """The runs' folders; before the flags."""

    out: Path | None = None
    """The file to write; by default report.html in the run's folder, or in the current one for several runs."""


def main(arguments):
    names = []
    while arguments and not arguments[0].startswith("-"):
        names.append(Path(arguments.pop(0)))
    flags = parse("report", Report(runs=tuple(names)), arguments)
    with mendable(ValueError, TypeError, OSError):
        if not flags.runs:
            raise ValueError("name the folder of a run: `fastgan report runs/fashion-dcgan`")
        out = flags.out or (flags.runs[0] if len(flags.runs) == 1 else Path()) / "report.html"
        records = [record(run) for run in flags.runs]
        save_report(records, out)
    for found in records:
        for sentence in found.missing.values():
            print(f"{found.title}: {sentence}")
    print(f"report:  {out}")
