"""Figures of a run."""

from fastgan.report.attention_maps import save_attention_maps
from fastgan.report.curves import save_curves
from fastgan.report.grid import save_grid

__all__ = ["save_attention_maps", "save_curves", "save_grid"]
