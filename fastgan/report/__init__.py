"""Figures of a run, and of runs side by side."""

from fastgan.report.attention_maps import save_attention_maps
from fastgan.report.comparison import save_comparison
from fastgan.report.curves import save_curves
from fastgan.report.grid import save_grid, save_images
from fastgan.report.scatter import save_scatter

__all__ = ["save_attention_maps", "save_comparison", "save_curves", "save_grid", "save_images", "save_scatter"]
