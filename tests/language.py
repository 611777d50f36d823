"""`make lint`: phrases that read like a translation, with plain ones in their place. CONTRIBUTING.md has the style."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLAIN = {
    r"anew": "again; 'make anew' is 'recompute' or 'rewrite'",
    r"whose own": "name the noun again",
    r"(?:is|are) no (?!longer|more|less|different|such )": "'is not a', 'are not', 'has no'",
    r"as it has": "name the noun again",
    r"(?:is|are|was|were) told": "'is reported', 'is listed'",
    r"told by": "'reported by', 'listed by'",
    r"(?:is|are|was|were|what is|being) asked(?: for)?": "'is called', 'is wanted', 'is needed'",
    r"asked for": "'wanted', 'requested'",
    r"has (?:its )?words for": "'describes'",
    r"data that are": "'data with', 'data of'",
    r"are no images": "'are not images'",
}
SUFFIXES = {".py", ".md", ".h", ".cpp", ".cu", ".cuh", ".toml", ".cff"}
PHRASES = [
    (re.compile(rf"\b{phrase}\b" if phrase[-1] != ")" else rf"\b{phrase}", re.I), better)
    for phrase, better in PLAIN.items()
]


def found(text):
    """(line number, phrase, what to write in its place) for each phrase in the text."""
    for number, line in enumerate(text.split("\n"), 1):
        for phrase, better in PHRASES:
            if match := phrase.search(line):
                yield number, match[0], better


def tracked():
    names = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split("\n")
    return [ROOT / name for name in names if Path(name).suffix in SUFFIXES and name != "tests/language.py"]


if __name__ == "__main__":
    count = 0
    for path in tracked():
        for number, phrase, better in found(path.read_text()):
            print(f"{path.relative_to(ROOT)}:{number}: {phrase!r}: write {better}")
            count += 1
    sys.exit(count > 0)
