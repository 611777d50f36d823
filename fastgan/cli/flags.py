"""Flags from dataclasses."""

import argparse
from contextlib import contextmanager
from dataclasses import dataclass, fields

from fastgan.cli import BadInput, exit_codes
from fastgan.extras import require
from fastgan.training import Recipe

MOST = 2**31 - 1


@dataclass(frozen=True)
class RecipeFlags(Recipe):
    """What the networks learn by: losses, optimiser, regularisers."""

    def __post_init__(self):
        """Text stays text: flags have no objects. `recipe_of` reads and checks the values."""


def recipe_flags(recipe):
    """The flags' values for a Recipe."""
    values = recipe.as_dict().items()
    return RecipeFlags(**{name: tuple(value) if isinstance(value, list) else value for name, value in values})


def recipe_of(flags):
    """The Recipe of flags. Errors: ValueError that names the field."""
    return Recipe(**{field.name: getattr(flags, field.name) for field in fields(flags)})


def parse(command, default, arguments):
    """A dataclass value from flags; those not given are as in `default`. --help and bad flags end the process."""
    tyro = require("tyro")
    # A switch has both forms, --x and --no-x: the command that began a run fits the run's values when it goes on.
    config = (tyro.conf.OmitArgPrefixes,)
    return tyro.cli(type(default), args=arguments, default=default, prog=f"fastgan {command}", config=config)


def glance(arguments, *names, switches=()):
    """The text of these flags alone, before all are parsed: a dict, None for a flag that is not given."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        parser.add_argument(f"--{name}", f"--{name.replace('-', '_')}", dest=name, nargs="?")
    for name in switches:
        parser.add_argument(f"--{name}", dest=name, action="store_true")
    return vars(parser.parse_known_args(arguments)[0])


def at_least_one(flags, *names):
    """Errors: ValueError for the first of these flags that is given and not a size."""
    for name in names:
        value = getattr(flags, name)
        if value is not None and not 1 <= value <= MOST:
            limit = "at least 1" if value < 1 else f"at most {MOST}"
            raise ValueError(f"{name} must be {limit}; got {value}")


@contextmanager
def mendable(*errors):
    """These errors are the user's to mend: one line, no traceback."""
    try:
        yield
    except BrokenPipeError:
        raise
    except errors as error:
        raise BadInput(str(error), exit_codes.of(error)) from error
