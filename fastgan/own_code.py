"""Code of the user's own, by its name: "module:function", or an entry point of an installed package.

The command line runs such code if the command itself names it. A name that comes from a file alone is refused.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any


def find(name: str, group: str, allowed: str) -> Callable[..., Any]:
    """What "module:function" names, or the entry point `name` of the group, as fastgan.models. The module is imported,
    so its code runs. Modules of the current folder are found after those that are installed.

    allowed: what the error says may be given. Errors: ValueError for what cannot be imported; TypeError for what cannot
    be called.
    """
    module, colon, function = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        if colon:
            found = getattr(importlib.import_module(module), function)
        else:
            found = next(iter(metadata.entry_points(group=group, name=name))).load()
    except StopIteration:
        raise ValueError(f"{allowed}; got {name!r}") from None
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{allowed}; {name!r} cannot be imported: {error}") from None
    if not callable(found):
        raise TypeError(f"{name} must be a function; got {type(found).__name__}")
    return found


def call(name: str, group: str, allowed: str, returns: str) -> Any:
    """What the function of this name returns, called without arguments.

    returns: what the function should return, in words.
    Errors: as `find`; TypeError for what is neither a Python function nor a class, such as os:abort.
    """
    function = find(name, group, allowed)
    if not inspect.isfunction(function) and not inspect.isclass(function):
        raise TypeError(f"{name} must be a Python function that returns {returns}, got {function!r:.80}")
    return function()


def refuse_unless_named(name: object, named: str | None, file: object, flag: str) -> None:
    """Errors: ValueError if the file names own code that the command does not name."""
    if name != named:
        raise ValueError(
            f"{file}: names code of your own, {name}. A file alone does not make code run: check the code, and name it"
            f" again: {flag}{name}"
        )
