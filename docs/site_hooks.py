"""What `make docs` adds to the pages: a reference page for each public room, and the figures of benchmarks/."""

from pathlib import Path
from types import FunctionType, ModuleType

from mkdocs.structure.files import File

import fastgan

ROOT = Path(__file__).parents[1]
HEADING = """\
    options:
      show_root_heading: true
      show_root_full_path: false
      show_root_toc_entry: true
"""


def rooms():
    """The public packages and modules of fastgan."""
    return [name for name in fastgan.__all__ if isinstance(getattr(fastgan, name), ModuleType)]


def public(room):
    """{name: full name} of the functions and classes that a room offers. A function may have its file's name."""
    package = getattr(fastgan, room)
    objects = {name: getattr(package, name) for name in package.__all__}
    kinds = (type, FunctionType)
    return {name: f"{x.__module__}.{x.__qualname__}" for name, x in objects.items() if isinstance(x, kinds)}


def reference(room):
    names = "".join(f"::: {full}\n{HEADING}\n" for full in public(room).values())
    return f"# fastgan.{room}\n\n::: fastgan.{room}\n    options:\n      members: false\n\n{names}"


def on_config(config):
    config.nav.insert(-1, {"Reference": [{f"fastgan.{room}": f"reference/{room}.md"} for room in rooms()]})
    return config


def on_files(files, config):
    for room in rooms():
        files.append(File.generated(config, f"reference/{room}.md", content=reference(room)))
    for path in sorted((ROOT / "benchmarks").glob("**/results/*.png")):
        files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """The figures lie beside docs/ in the repository, and inside of the site."""
    return markdown.replace("](../benchmarks/", "](benchmarks/")
