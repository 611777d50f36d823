"""A network while something measures it."""

from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from fastgan.nn.modes import evaluation_mode


def evaluated(*functions: Any) -> AbstractContextManager[None]:
    """A block in which those of the functions that are networks are in evaluation mode; each is given back as it
    was."""
    return evaluation_mode(nn.ModuleList(f for f in functions if isinstance(f, nn.Module)))
