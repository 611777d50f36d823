"""Triton kernels in Triton's interpreter, on CPU tensors; TRITON_INTERPRET has to be set before they are imported."""

import contextlib
import functools
import importlib
from collections import Counter

import torch


@contextlib.contextmanager
def serving_cpu_tensors(family):
    """torch.ops.fastgan.FAMILY and its derivatives run fastgan/kernels/FAMILY.py on CPU tensors; yields the calls."""
    kernels = importlib.import_module(f"fastgan.kernels.{family}")
    library = torch.library.Library("fastgan", "IMPL")
    functions = {"": "forward", "_backward": "backward", "_double_backward": "double_backward"}
    calls = Counter()

    def counted(function, *args):
        calls[function] += 1
        return getattr(kernels, function)(*args)

    for suffix, function in functions.items():
        library.impl(family + suffix, functools.partial(counted, function), "CPU", allow_override=True)
    try:
        yield calls
    finally:
        library._destroy()
