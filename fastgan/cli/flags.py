"""Flags from dataclasses."""

import warnings
from contextlib import contextmanager

from fastgan.cli import BadInput
from fastgan.extras import require


def parse(command, default, arguments):
    """A dataclass value from flags; those not given are as in `default`. --help and bad flags end the process."""
    tyro = require("tyro")
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes)
    with warnings.catch_warnings():
        # A recipe's penalties and schedules are text in flags, and objects where they come from a named recipe.
        warnings.filterwarnings("ignore", "The field .* is annotated with type", UserWarning)
        return tyro.cli(type(default), args=arguments, default=default, prog=f"fastgan {command}", config=config)


def at_least_one(flags, *names):
    """Errors: ValueError for the first of these flags that is given and below 1."""
    for name in names:
        if getattr(flags, name) is not None and getattr(flags, name) < 1:
            raise ValueError(f"{name} must be at least 1; got {getattr(flags, name)}")


@contextmanager
def mendable(*errors):
    """These errors are the user's to mend: one line, no traceback."""
    try:
        yield
    except errors as error:
        raise BadInput(str(error)) from error
