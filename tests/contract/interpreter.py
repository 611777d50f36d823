"""Triton kernels in Triton's interpreter, on CPU tensors; TRITON_INTERPRET has to be set before they are imported."""

import contextlib
import importlib

import torch


@contextlib.contextmanager
def serving_cpu_tensors(family):
    """torch.ops.fastgan.FAMILY and its derivatives run fastgan/kernels/FAMILY.py for CPU tensors."""
    kernels = importlib.import_module(f"fastgan.kernels.{family}")
    library = torch.library.Library("fastgan", "IMPL")
    functions = {"": "forward", "_backward": "backward", "_double_backward": "double_backward"}
    for suffix, function in functions.items():
        library.impl(family + suffix, getattr(kernels, function), "CPU", allow_override=True)
    try:
        yield
    finally:
        library._destroy()
