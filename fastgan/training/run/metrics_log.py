"""The numbers of a run, one JSON object a line."""

import json
from pathlib import Path
from typing import Any

from fastgan.atomic_file import naming, replacing
from fastgan.training.run.damaged import Damaged


class MetricsLog:
    """rows: all that the file holds, in memory, so that nobody parses the file while a run goes on."""

    def __init__(self, path: Path, last_step: int, rollbacks: int = 0) -> None:
        """last_step: where the run goes on; what a killed run logged after it is dropped, since it comes again.
        rollbacks: how many the state there has; the lines of later ones are dropped, too."""
        self.path = Path(path)
        rows = read_metrics(path) if last_step else []
        self.rows = kept = [r for r in rows if r["step"] <= last_step and r.get("rollback", 0) <= rollbacks]
        with replacing(path) as unfinished:
            unfinished.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def write(self, **row: Any) -> None:
        self.rows.append(row)
        with naming(self.path), open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """The rows of a log, as dicts; an empty list without a file. A last line that was cut off is left out.

    Errors: Damaged (a ValueError) with the path and the number of a line that cannot be read as a row.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise Damaged(f"{path}: is damaged: it is not a file; remove it to go on")
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return [_row(line, f"{path}, line {number}") for number, line in enumerate(lines[:-1], 1)]


def _row(line, where):
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{where}: is damaged ({error!s:.100}); remove the line to go on") from None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        raise Damaged(f"{where}: is damaged: a mapping with a step is expected; remove the line to go on")
    return row
