"""The Triton kernels of an op family, registered for CUDA and imported when a CUDA tensor comes."""

import functools
import importlib
import importlib.util
import operator
from collections.abc import Callable
from typing import Any

import torch

INSTALLED = importlib.util.find_spec("triton") is not None
is_on_gpu = operator.attrgetter("is_cuda")  # of a tensor


def triton_installed() -> bool:
    return INSTALLED  # found out at import: torch.compile cannot trace the search


def _on_its_device(run: Callable, args: tuple, device: int | None) -> Any:
    """Triton launches on torch's current device."""
    with torch.cuda.device(device):
        return run(*args)


def triton_kernel(name: str, a_tensor: int) -> Callable:
    """The function of fastgan/kernels/FAMILY.py that serves fastgan::NAME, which is registered for CUDA.

    NAME is FAMILY, FAMILY_backward or FAMILY_double_backward; argument a_tensor is a tensor in every call. What is
    returned takes a mask as a tuple, and may return None in the place of a result that is not wanted.
    """
    family = name.removesuffix("_backward").removesuffix("_double")

    @functools.cache
    def function() -> Callable:
        return getattr(importlib.import_module(f"fastgan.kernels.{family}"), name[len(family) + 1 :] or "forward")

    def registered(*args):
        return _on_its_device(function(), args, args[a_tensor].device.index)

    def wanted(*args):
        device = args[a_tensor].device.index
        if device == torch.cuda.current_device():
            return function().wanted(*args)
        return _on_its_device(function().wanted, args, device)

    torch.library.register_kernel(f"fastgan::{name}", "cuda", registered)
    return wanted
