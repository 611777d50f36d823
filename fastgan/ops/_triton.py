"""The Triton kernels of an op family, registered for CUDA and imported when a CUDA tensor comes."""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import torch

INSTALLED = importlib.util.find_spec("triton") is not None


def triton_installed() -> bool:
    return INSTALLED  # found out at import: torch.compile cannot trace the search


def triton_kernels(family: str) -> list[Callable[..., Any]]:
    """The functions of fastgan/kernels/FAMILY.py, registered for fastgan::FAMILY and its two derivatives."""
    return [_register(family, suffix) for suffix in ("", "_backward", "_double_backward")]


def _register(family: str, suffix: str) -> Callable[..., Any]:
    @functools.cache
    def function():
        return getattr(importlib.import_module(f"fastgan.kernels.{family}"), suffix.removeprefix("_") or "forward")

    def kernel(*args):
        device = next(a for a in args if isinstance(a, torch.Tensor)).device.index
        if device == torch.cuda.current_device():
            return function()(*args)
        with torch.cuda.device(device):  # Triton launches on torch's current device
            return function()(*args)

    torch.library.register_kernel(f"fastgan::{family}{suffix}", "cuda", kernel)
    return kernel
