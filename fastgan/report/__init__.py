"""Figures of a run."""

from fastgan.report.curves import save_curves
from fastgan.report.grid import save_grid

__all__ = ["save_curves", "save_grid"]
