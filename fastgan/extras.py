"""Dependencies that only some parts of fastgan need, imported where they are used."""

import importlib
from types import ModuleType


def require(module: str, extra: str = "train") -> ModuleType:
    """Import and return a module of an optional dependency; where it is missing, say how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise  # the package is there, and something that it needs is not
        raise ModuleNotFoundError(f"{package} is not installed: pip install 'fastgan[{extra}]'", name=package) from None
