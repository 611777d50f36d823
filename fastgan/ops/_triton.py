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


def triton_kernel(name: str, a_tensor: int) -> tuple[Callable[[], Any], Callable[..., Any]]:
    """(function, elsewhere) for fastgan::NAME, and registers the function for CUDA.

    NAME is FAMILY, FAMILY_backward or FAMILY_double_backward; argument a_tensor is a tensor in every call.
    function() is that of fastgan/kernels/FAMILY.py, for torch's current device; elsewhere(*args) is for another one.
    """
    family = name.removesuffix("_backward").removesuffix("_double")

    @functools.cache
    def function() -> Any:
        return getattr(importlib.import_module(f"fastgan.kernels.{family}"), name[len(family) + 1 :] or "forward")

    def elsewhere(*args):
        with torch.cuda.device(args[a_tensor].device):  # Triton launches on torch's current device
            return function()(*args)

    def registered(*args):
        return (function() if args[a_tensor].device.index == torch.cuda.current_device() else elsewhere)(*args)

    torch.library.register_kernel(f"fastgan::{name}", "cuda", registered)
    return function, elsewhere
