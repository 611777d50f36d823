"""Loads the compiled ops into torch. Nothing is compiled here; what cannot be loaded is reported, not hidden."""

import ctypes
from pathlib import Path

import torch

FOLDER = Path(__file__).parent


def library(name: str) -> Path | None:
    """The path of a built extension, or None."""
    return next(FOLDER.glob(f"{name}.abi3.*"), None)


def load_cpu() -> None:
    path = library("_C")
    if path is None:
        raise ImportError(
            f"fastgan's compiled ops are not in {FOLDER}: install it with `pip install .` from its checkout"
            " (an uninstalled source folder on the path hides the installed package)"
        )
    torch.ops.load_library(path)


def load_cuda() -> str | None:
    """Loads the CUDA ops where torch has CUDA; returns why they are not there, in one sentence, or None."""
    if not torch.backends.cuda.is_built():
        return "this torch is a CPU build; install a CUDA build of torch to use a GPU"
    path = library("_CUDA")
    if path is None:
        return "fastgan was built without CUDA; install the CUDA toolkit (nvcc) and run `FASTGAN_CUDA=1 pip install .`"
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"the CUDA ops do not load ({error}); rebuild fastgan with this machine's torch and CUDA toolkit"
    return None


def isa() -> str:
    """The instruction set that the CPU ops use in this process: "avx512", "avx2" or "baseline"."""
    function = ctypes.CDLL(str(library("_C"))).fastgan_isa
    function.restype = ctypes.c_char_p
    return function().decode()


def peak_output_bytes() -> int:
    """The most memory that large outputs of CPU ops had since the last call; torch's profiler does not see it."""
    function = ctypes.CDLL(str(library("_C"))).fastgan_peak_output_bytes
    function.restype = ctypes.c_int64
    return function()


load_cpu()
CUDA_PROBLEM = load_cuda()
