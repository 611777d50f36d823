"""What `make docs` adds to the pages: a reference page for each public room, and the figures of benchmarks/."""

from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]


def rooms():
    """The public packages and modules of fastgan."""
    import fastgan

    return [name for name in fastgan.__all__ if not isinstance(getattr(fastgan, name), type)]


def on_config(config):
    pages = [{f"fastgan.{room}": f"reference/{room}.md"} for room in rooms()]
    config.nav.insert(-1, {"Reference": pages})
    return config


def on_files(files, config):
    for room in rooms():
        text = f"# fastgan.{room}\n\n::: fastgan.{room}\n"
        files.append(File.generated(config, f"reference/{room}.md", content=text))
    for path in sorted((ROOT / "benchmarks").glob("**/results/*.png")):
        files.append(File.generated(config, str(path.relative_to(ROOT)), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """The figures lie beside docs/ in the repository, and inside of the site."""
    return markdown.replace("](../benchmarks/", "](benchmarks/")
