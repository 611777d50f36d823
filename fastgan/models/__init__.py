"""Generators and discriminators, one architecture a file."""

from fastgan.models.create import create, names, options
from fastgan.models.pair import Pair

__all__ = ["Pair", "create", "names", "options"]
