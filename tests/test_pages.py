"""Pages say what the results say, their Python runs as it stands there, and all of them are on the site."""

import contextlib
import importlib
import io
import re
import shlex
from pathlib import Path

import pytest
import torch

import fastgan
from benchmarks import numerics, pages
from fastgan.cli import COMMANDS, main

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [p for p in sorted(DOCS.rglob("*.md")) if "templates" not in p.parts]


def name(path):
    return str(path.relative_to(DOCS))


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.S | re.M)


@pytest.mark.parametrize("template, page", list(pages.pages()), ids=lambda path: path.name)
def test_a_page_is_what_its_template_and_the_committed_results_say(template, page):
    assert page.read_text() == pages.render(template)


def test_a_number_that_no_result_has_is_an_error(tmp_path):
    template = tmp_path / "page.md"
    template.write_text('{{ mean("pacgan_grid", "GAN", "no such number") }}')
    with pytest.raises(KeyError):
        pages.render(template)
    template.write_text("{{ no_such_function() }}")
    with pytest.raises(Exception, match="no_such_function"):
        pages.render(template)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=name)
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    """A page begins with nothing, but for the critic and the batches that docs/four_passes.md speaks of."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    if name(page) == "four_passes.md":
        critic = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.LeakyReLU(0.2), torch.nn.Linear(8, 1))
        names |= {"fastgan": fastgan, "critic": critic, "real": torch.randn(3, 4), "fake": torch.randn(3, 4)}
    for block in blocks(page, "python"):
        exec(compile(block, name(page), "exec"), names)


def flags_of(command):
    """The flags that `fastgan COMMAND --help` lists."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return set(re.findall(r"--[a-z][\w-]*", text.getvalue()))


def test_commands_and_their_flags_are_there():
    given = {}  # command -> {flag: the line that has it}
    for page in [*PAGES, DOCS.parent / "README.md"]:
        for line in "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["fastgan"] and words[1] not in ("--help", "--version"):
                assert words[1] in COMMANDS, f"{page.name}: {line}"
                command = tuple(words[1:3]) if words[1:3] == ["data", "check"] else (words[1],)
                named = {word.split("=")[0]: line for word in words if word.startswith("--")}
                given[command] = given.get(command, {}) | named
    assert len(given) > 4
    for command, named in given.items():
        unknown = named.keys() - flags_of(command)
        assert not unknown, [named[flag] for flag in unknown]


def test_the_site_builds_strictly(tmp_path):
    """No link, picture or anchor is broken, and no page is missing in the navigation."""
    build = pytest.importorskip("mkdocs.commands.build").build
    load_config = pytest.importorskip("mkdocs.config").load_config
    pytest.importorskip("mkdocstrings")
    site_hooks = importlib.import_module("docs.site_hooks")
    build(load_config(str(DOCS.parent / "mkdocs.yml"), strict=True, site_dir=str(tmp_path)))
    for room in site_hooks.rooms():
        page = (tmp_path / "reference" / f"{room}.html").read_text()
        for full_name in site_hooks.public(room).values():
            assert f'id="{full_name}"' in page
    assert "attention" in site_hooks.public("ops")  # a function with the name of its file


def test_the_page_of_numerics_would_show_a_wrong_derivative(monkeypatch):
    rows = list(numerics.measure("gradient penalty", "cpu", [torch.float32]))
    assert len(rows) == 6
    assert all(row[order] < 2e-6 and row["same_bits"] == "yes" for row in rows for order in numerics.ORDERS)
    ours, torchs, exact = numerics.OPS["gradient penalty"]
    constant = lambda grad: ours(grad.detach()) + 0 * grad.sum()  # noqa: E731 (the right value, no derivative)
    monkeypatch.setitem(numerics.OPS, "gradient penalty", (constant, torchs, exact))
    row = next(numerics.measure("gradient penalty", "cpu", [torch.float32]))
    assert row["forward"] < 2e-6 and row["first"] > 0.5
