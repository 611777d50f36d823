"""fastgan's docstrings as Markdown: `name: what it is`, a line for each argument, becomes a list."""

import re

import griffe

ITEM = re.compile(r"(?P<names>(?:\"?[\w.*]+\"?(?:, \*?\"?[\w.*]+\"?){0,4}|Errors|State|Diagnostics)): (?P<text>.+)")


class Lists(griffe.Extension):
    def on_object(self, *, obj, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(docstring):
    """Items at the margin become a list, each with its whole sentence. Everything else, `Args:` included, stays."""
    lines, inside = [], False
    for line in docstring.split("\n"):
        if item := ITEM.fullmatch(line):
            if not inside and lines and lines[-1]:
                lines.append("")
            lines.append(f"- **{item['names']}**: {item['text']}")
            inside = True
        elif inside and line and not line.startswith(" ") and not lines[-1].endswith("."):
            lines.append(f"    {line}")  # the item's sentence goes on
        elif inside and line and not line.startswith(" "):
            lines += ["", line]
            inside = False
        else:
            inside = inside and bool(line)
            lines.append(line)
    return "\n".join(lines)
