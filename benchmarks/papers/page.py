"""docs/papers.md from the committed results: `python -m benchmarks.papers.page`."""

import json
import statistics
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "docs" / "papers.md"
INTRODUCTION = """# Paper tables

What papers say, measured again with this library: every table runs through `fastgan.Trainer` and recipes, or, where
there is nothing to train, through the library's losses, penalties and ops. `make papers` runs them all; this page is
written by `python -m benchmarks.papers.page` from the files in `benchmarks/papers/results`, which hold every run with
its seed, seconds, commit and versions.

**exact**: the paper's networks, steps and metric. **reduced**: the protocol says what was cut; such a table shows the
same effect, and reproduces no number. **own**: without a published counterpart. Seeds are fixed beforehand and all of
them are shown; values are those of the last iterate. A criterion that was missed is shown as missed.
"""
SHOWN = 6  # numbers of a configuration


def tables():
    found = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    return sorted(found, key=lambda table: (table["id"][0] != "T", int(table["id"][1:])))


def page(found):
    lines = [INTRODUCTION, "| | table | kind | criteria |", "|---|---|---|---|"]
    for table in found:
        judged = [c["passed"] for c in table["criteria"] if c["judged"]]
        verdict = f"{sum(judged)} of {len(judged)} hold"
        lines.append(f"| {table['id']} | [{table['title']}](#{anchor(table)}) | {table['label']} | {verdict} |")
    for table in found:
        lines += ["", *section(table)]
    return "\n".join(lines) + "\n"


def section(table):
    names = list(dict.fromkeys(name for summary in table["summary"].values() for name in summary))
    names = [name for name in names if name not in ("steps", "wall_seconds", "cpu_seconds")][:SHOWN]
    lines = [f"## {heading(table)}", "", f"*{table['label']}*; {table['source']}.", "", table["protocol"], ""]
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


def main():
    PAGE.write_text(page(tables()))
    print(PAGE)


if __name__ == "__main__":
    main()
