"""fastgan: custom kernels for training GANs. Every op differentiates twice, at kernel speed and kernel memory."""

import importlib

from fastgan import _threads, nn, ops  # noqa: F401 (_threads first, before torch loads)

__version__ = "0.1.0"
__all__ = [
    "Recipe",
    "Trainer",
    "augment",
    "data",
    "losses",
    "metrics",
    "models",
    "nn",
    "ops",
    "penalties",
    "report",
    "training",
]

_LAZY = {"Recipe": "fastgan.training", "Trainer": "fastgan.training"}


def __getattr__(name):
    """What lies above the layers is imported when it is asked for: `import fastgan` needs torch and numpy alone."""
    if name not in __all__:
        raise AttributeError(f"module 'fastgan' has no attribute {name!r}")
    module = importlib.import_module(_LAZY.get(name, f"fastgan.{name}"))
    value = getattr(module, name) if name in _LAZY else module
    globals()[name] = value
    return value
