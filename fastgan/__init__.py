"""fastgan: custom kernels for training GANs. Every op differentiates twice, at kernel speed and kernel memory."""

import importlib
from typing import TYPE_CHECKING, Any

from fastgan import _threads, nn, ops  # noqa: F401 (_threads first, before torch loads)

if TYPE_CHECKING:  # what editors and type checkers see; at run time `__getattr__` imports the same names at first use
    from fastgan import augment, data, export, figures, losses, metrics, models, monitor, penalties, report, training
    from fastgan.export import load
    from fastgan.training import Recipe, Trainer

__version__ = "0.1.0"
__all__ = [
    "Recipe",
    "Trainer",
    "augment",
    "data",
    "export",
    "figures",
    "load",
    "losses",
    "metrics",
    "models",
    "monitor",
    "nn",
    "ops",
    "penalties",
    "report",
    "training",
]

_LAZY = {"load": "fastgan.export", "Recipe": "fastgan.training", "Trainer": "fastgan.training"}


if not TYPE_CHECKING:  # a checker would take any name for one that this function finds

    def __getattr__(name: str) -> Any:
        """Import what lies above the layers at its first use: `import fastgan` needs torch and numpy alone."""
        if name not in __all__:
            raise AttributeError(f"module 'fastgan' has no attribute {name!r}")
        module = importlib.import_module(_LAZY.get(name, f"fastgan.{name}"))
        value = getattr(module, name) if name in _LAZY else module
        globals()[name] = value
        return value
