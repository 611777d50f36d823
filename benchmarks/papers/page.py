"""The tables of docs/papers.md, from the committed results."""

import importlib
import json
import statistics
from dataclasses import asdict
from functools import cache
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
SHOWN = 6  # numbers of a configuration


@cache
def table(name):
    """A table's results and the texts of its module, which the results file does not repeat."""
    results = json.loads((RESULTS / f"{name}.json").read_text())
    return results | asdict(importlib.import_module(f"benchmarks.papers.{name}").TABLE)


def tables():
    found = [table(path.stem) for path in RESULTS.glob("*.json")]
    return sorted(found, key=lambda t: (t["id"][0] != "T", int(t["id"][1:])))


def tables_as_text(found=None):
    """A list of all tables with their verdicts, then each table."""
    found = found or tables()
    lines = ["| | table | kind | criteria |", "|---|---|---|---|"]
    for t in found:
        judged = [c["passed"] for c in t["criteria"] if c["judged"]]
        verdict = f"{sum(judged)} of {len(judged)} hold"
        lines.append(f"| {t['id']} | [{t['title']}](#{anchor(t)}) | {t['label']} | {verdict} |")
    for t in found:
        lines += ["", *section(t)]
    return "\n".join(lines)


def section(table):
    names = list(dict.fromkeys(name for summary in table["summary"].values() for name in summary))
    names = [name for name in names if name not in ("steps", "wall_seconds", "cpu_seconds")][:SHOWN]
    lines = [f"## {heading(table)}", "", f"*{table['label']}*; {table['source']}.", "", table["protocol"], ""]
    lines += [*(f"- {note}" for note in table["notes"]), ""] if table["notes"] else []
    published = ["published"] if table["published"] else []
    header = ["", *published, *(name.replace("_", " ") for name in names), "seeds"]
    lines += [row(header), row(["---"] * len(header))]
    for configuration, summary in table["summary"].items():
        cells = [configuration, *([table["published"].get(configuration, "")] if published else [])]
        count = len(next(iter(summary.values()))["values"])
        lines.append(row([*cells, *(number(summary.get(name)) for name in names), str(count)]))
    lines += ["", *(f"- {verdict(c)}" for c in table["criteria"]), ""]
    if (RESULTS / f"{table['name']}.png").exists():
        lines += [f"![{table['title']}](../benchmarks/papers/results/{table['name']}.png)", ""]
    seconds = [r["cpu_seconds"] for r in table["runs"] if "cpu_seconds" in r]
    hardware = ", ".join(sorted({r["hardware"] for r in table["runs"]}))
    median = statistics.median(seconds)
    took = "under a second" if median < 1 else f"{median:.0f} s"
    lines.append(
        f"{len(table['runs'])} runs, {took} each (median of CPU time) on {hardware};"
        f" `python -m benchmarks.papers.{table['name']}`."
    )
    return lines


def heading(table):
    return f"{table['id']}: {table['title']}"


def anchor(table):
    return "".join(c for c in heading(table).lower().replace(" ", "-") if c.isalnum() or c in "-_")


def verdict(criterion):
    word = "shown" if not criterion["judged"] else "holds" if criterion["passed"] else "**missed**"
    return f"{word}: {criterion['asked']}; measured: {criterion['measured']}"


def number(values):
    """Mean +- standard error."""
    if values is None:
        return ""
    error = values["standard_error"]
    return f"{values['mean']:.4g}" + (f" ± {error:.2g}" if error else "")


def row(cells):
    return "| " + " | ".join(cells) + " |"
