"""Flags from dataclasses."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from fastgan.cli import BadInput, exit_codes
from fastgan.extras import require
from fastgan.training import Recipe

MOST = 2**31 - 1
Flags = TypeVar("Flags")


@dataclass(frozen=True)
class RecipeFlags(Recipe):
    """What the networks learn by: losses, optimiser, regularisers."""

    def __post_init__(self) -> None:
        """Text stays text: flags have no objects. `recipe_of` reads and checks the values."""


def recipe_flags(recipe: Recipe) -> RecipeFlags:
    """The flags' values for a Recipe."""
    values = recipe.as_dict()
    flags: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return RecipeFlags(**flags)


def recipe_of(flags: RecipeFlags) -> Recipe:
    """The Recipe of flags. Errors: ValueError that names the field."""
    return Recipe(**{field.name: getattr(flags, field.name) for field in fields(flags)})


def parse(command: str, default: Flags, arguments: Sequence[str]) -> Flags:
    """A dataclass value from flags; those not given are as in `default`. --help and bad flags end the process."""
    tyro = require("tyro")
    _describe(type(default))
    # A switch has both forms, --x and --no-x: the command that began a run fits the run's values when it goes on.
    config = (tyro.conf.OmitArgPrefixes,)
    return tyro.cli(type(default), args=arguments, default=default, prog=f"fastgan {command}", config=config)


def _describe(kind: type) -> None:
    """Gives tyro each field's docstring as one paragraph: tyro itself keeps the line breaks of the source."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        parsed = require("docstring_parser", "train").parse_from_object(base).params
        texts |= {text.arg_name: " ".join((text.description or "").split()) for text in parsed}
    for field in fields(kind):
        if isinstance(field.type, type) and is_dataclass(field.type):
            _describe(field.type)
        elif texts.get(field.name):
            field.metadata = MappingProxyType({**field.metadata, "help": texts[field.name]})


def glance(arguments: Sequence[str], *names: str, switches: Sequence[str] = ()) -> dict[str, Any]:
    """The text of these flags alone, before all are parsed: a dict, None for a flag that is not given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        parser.add_argument(f"--{name}", f"--{name.replace('-', '_')}", dest=name, nargs="?")
    for name in switches:
        parser.add_argument(f"--{name}", dest=name, action="store_true")
    return vars(parser.parse_known_args(arguments)[0])


def at_least_one(flags: object, *names: str) -> None:
    """Errors: ValueError for the first of these flags that is given and not a size."""
    for name in names:
        value = getattr(flags, name)
        if value is not None and not 1 <= value <= MOST:
            limit = "at least 1" if value < 1 else f"at most {MOST}"
            raise ValueError(f"{name} must be {limit}; got {value}")


@contextmanager
def mendable(*errors: type[BaseException]) -> Iterator[None]:
    """These errors are the user's to mend: one line, no traceback."""
    try:
        yield
    except BrokenPipeError:
        raise
    except errors as error:
        raise BadInput(str(error), exit_codes.of(error)) from error
