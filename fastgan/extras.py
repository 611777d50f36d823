"""Optional dependencies: only the code that needs one imports it."""

import importlib
from types import ModuleType


def require(module: str, extra: str | None = "train") -> ModuleType:
    """Import and return a module of an optional dependency. The error for a missing one gives the pip command.

    extra: the extra of fastgan that has the package; None for a package that no extra has.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise  # the package is installed, but one of its own imports is missing
        what = package if extra is None else f"'fastgan[{extra}]'"
        raise ModuleNotFoundError(f"{package} is not installed: pip install {what}", name=package) from None
