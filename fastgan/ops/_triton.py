"""The Triton kernels of an op family, registered for CUDA and imported when a CUDA tensor comes."""

import functools
import importlib
import importlib.util
import operator
from collections.abc import Callable

import torch

INSTALLED = importlib.util.find_spec("triton") is not None
is_on_gpu = operator.attrgetter("is_cuda")  # of a tensor


def triton_installed() -> bool:
    return INSTALLED  # found out at import: torch.compile cannot trace the search


def triton_kernel(name: str, a_tensor: int) -> Callable:
    """The function of fastgan/kernels/FAMILY.py that serves fastgan::NAME, registered for CUDA.

    NAME is FAMILY, FAMILY_backward or FAMILY_double_backward; argument a_tensor is a tensor in every call.
    """
    family = name.removesuffix("_backward").removesuffix("_double")

    @functools.cache
    def function() -> Callable:
        return getattr(importlib.import_module(f"fastgan.kernels.{family}"), name[len(family) + 1 :] or "forward")

    def kernel(*args):
        device = args[a_tensor].device.index
        if device == torch.cuda.current_device():
            return function()(*args)
        with torch.cuda.device(device):  # Triton launches on torch's current device
            return function()(*args)

    torch.library.register_kernel(f"fastgan::{name}", "cuda", kernel)
    return kernel
