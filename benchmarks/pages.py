"""Pages with numbers from results files: `python -m benchmarks.pages` writes all of them.

A page is a template in docs/templates. `{{ mean("pacgan_grid", "GAN", "modes") }}` reads a paper table's results,
`{{ layers("gradient_penalty.csv") }}` a benchmark's. No page holds a measured number that was typed by hand.
"""

from pathlib import Path

import jinja2

from benchmarks import speed_tables
from benchmarks.papers import page as papers

ROOT = Path(__file__).parents[1]
TEMPLATES = ROOT / "docs" / "templates"


def _values(table, configuration, name):
    return papers.table(table)["summary"][configuration][name]["values"]


def mean(table, configuration, name):
    """The mean over a paper table's seeds."""
    values = _values(table, configuration, name)
    return sum(values) / len(values)


def low(table, configuration, name):
    return min(_values(table, configuration, name))


def high(table, configuration, name):
    return max(_values(table, configuration, name))


def fixed(value, digits):
    return f"{value:.{digits}f}"


def link(table):
    """The table's place on the page of papers."""
    return f"papers.md#{papers.anchor(papers.table(table))}"


def render(template):
    """The text of a page, by its template's file."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    functions = {"mean": mean, "low": low, "high": high, "fixed": fixed, "table": link, "papers": papers.tables_as_text}
    environment.globals |= functions | speed_tables.TABLES
    return environment.from_string(template.read_text()).render()


def pages():
    """(template, page) for each: docs/templates/README.md is the one in the project's root."""
    for template in sorted(TEMPLATES.glob("*.md")):
        yield template, (ROOT if template.name == "README.md" else ROOT / "docs") / template.name


if __name__ == "__main__":
    for template, page in pages():
        page.write_text(render(template))
        print(page.relative_to(ROOT))
