"""One HTML page of a run, or of runs side by side."""

from fastgan.figures import save_attention_maps, save_comparison, save_curves, save_grid, save_images, save_scatter
from fastgan.report.notebook import show
from fastgan.report.page import render, save_report
from fastgan.report.run_record import Record, record

__all__ = [
    "Record",
    "record",
    "render",
    "save_attention_maps",
    "save_comparison",
    "save_curves",
    "save_grid",
    "save_images",
    "save_report",
    "save_scatter",
    "show",
]
