"""Every word of docs/tricks.md that is meant to be typed is understood."""

import re
from pathlib import Path

import pytest

from fastgan import Recipe, losses
from fastgan.cli.compare import Compare
from fastgan.cli.flags import parse
from fastgan.cli.train import Train
from fastgan.training.recipe.presets import recipe

PAGE = (Path(__file__).parents[1] / "docs" / "tricks.md").read_text()
COMMANDS = sorted(set(re.findall(r"fastgan (?:train|compare) [^`\n]+", PAGE)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_accepted(command):
    _, verb, *words = command.split()
    if verb == "compare":
        names = [word for word in words[: words.index("--data")]]
        assert [recipe(name) for name in names]
        parse("compare", Compare(recipes=tuple(names)), words[len(names) :])
    else:
        assert recipe(parse("train", Train(), words).recipe)


@pytest.mark.parametrize("text", sorted(set(re.findall(r'"((?:[A-Z]\w+)\([^"]*\))"', PAGE))))
def test_a_term_is_spelled_as_the_recipe_reads_it(text):
    if text.startswith("ProgressiveSchedule"):
        assert Recipe(progressive=text)
    elif text.startswith(("L1", "FeatureMatching")):
        assert Recipe(generator_terms=(text,)).generator_terms
    else:
        assert Recipe(penalties=(text,)).penalties


def test_the_losses_are_all_there():
    for name in losses.names():
        assert f'"{name}"' in PAGE


def test_links_and_pictures_exist():
    folder = Path(__file__).parents[1] / "docs"
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (folder / target).exists(), target
