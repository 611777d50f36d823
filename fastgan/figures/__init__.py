"""Figures of a run, and of runs side by side."""

from fastgan.figures.attention_maps import save_attention_maps
from fastgan.figures.comparison import save_comparison
from fastgan.figures.curves import save_curves
from fastgan.figures.grid import save_grid, save_images
from fastgan.figures.scatter import save_scatter

__all__ = ["save_attention_maps", "save_comparison", "save_curves", "save_grid", "save_images", "save_scatter"]
