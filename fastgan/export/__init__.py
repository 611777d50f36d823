"""A trained generator for other places: one folder that a line loads, ONNX, torch.export, a model card."""

from fastgan.export.card import write_card
from fastgan.export.formats import DifferentNumbers, save_onnx, save_program
from fastgan.export.package import load, save

__all__ = ["DifferentNumbers", "load", "save", "save_onnx", "save_program", "write_card"]
