"""The numbers of a run, one JSON object a line."""

import json
from pathlib import Path

from fastgan.atomic_file import replacing


class MetricsLog:
    """rows: all that the file holds, in memory, so that nobody parses the file while a run goes on."""

    def __init__(self, path, last_step):
        """last_step: where the run goes on; what a killed run logged after it is dropped, since it comes again."""
        self.path = Path(path)
        self.rows = kept = [row for row in read_metrics(path) if row["step"] <= last_step]
        with replacing(path) as unfinished:
            unfinished.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def write(self, **row):
        self.rows.append(row)
        with open(self.path, "a") as file:
            file.write(json.dumps(row) + "\n")


def read_metrics(path):
    """The rows of a log, as dicts; none where there is no file. A last line that was cut off is left out."""
    path = Path(path)
    lines = path.read_text().split("\n") if path.exists() else [""]
    return [json.loads(line) for line in lines[:-1]]
