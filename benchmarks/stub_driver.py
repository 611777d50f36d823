"""The host's side of the GPU path without a GPU: CPU tensors take every step of CUDA tensors up to the launch.

`install` is for a process of its own: nothing undoes it. The launches, the Python frames and the host's time are a
GPU's; results are whatever was in memory.
"""

import atexit
import ctypes
import importlib
import operator
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

FAMILIES = ("bias_act", "normalize", "attention")
DEVICE = 0


def install(observe: Callable[[str, tuple, list], None] | None = None) -> Callable[[], int]:
    """Triton's own compiler and launcher, for a Hopper GPU, on `stub_cuda.c`; returns the count of launches so far.

    observe(kernel, grid, arguments), if given, is called at every launch.
    """
    folder = tempfile.mkdtemp(prefix="fastgan-stub-driver-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = Path(folder, "libcuda.so.1")
    compiler = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O2", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([*compiler, "-o", library, Path(__file__).with_name("stub_cuda.c")], check=True)
    Path(folder, "libcuda.so").symlink_to(library)
    os.environ["TRITON_LIBCUDA_PATH"] = folder
    launches = ctypes.CDLL(str(library)).stub_launches  # loaded first, so that Triton's driver finds it by its name
    launches.restype = ctypes.c_long

    from triton.backends.nvidia.driver import CudaDriver, CudaLauncher
    from triton.runtime import driver

    class ObservedLauncher(CudaLauncher):
        def __init__(self, source: Any, metadata: Any) -> None:
            super().__init__(source, metadata)
            launch, name = self.launch, metadata.name

            def observed(*arguments: Any) -> None:
                observe(name, arguments[:3], [_readable(a) for a in arguments[-1]])
                launch(*arguments)

            self.launch = observed

    stub = CudaDriver()
    stub.get_current_device = lambda: DEVICE
    stub.get_current_stream = lambda device: 0
    stub.get_device_capability = lambda device=DEVICE: (9, 0)
    if observe:
        stub.launcher_cls = ObservedLauncher
    driver.set_active(stub)
    _serve_cpu_tensors()
    return launches


def install_uncompiled(observe: Callable[[str, tuple, list], None]) -> None:
    """Launches end in observe(kernel, grid, arguments); no kernel is compiled, which would take a second each."""
    import triton
    from triton.runtime import driver

    def run(kernel: triton.JITFunction, *arguments: Any, grid: tuple, warmup: bool, **options: Any) -> Any:
        name = kernel.__name__
        observe(name, grid, [_readable(a) for a in arguments])

        def launch(x: int, y: int, z: int, *others: Any) -> None:
            observe(name, (x, y, z), [_readable(a) for a in others[-1]])

        plain = {"global_scratch_size": 0, "profile_scratch_size": 0, "gsan_enabled": False}
        plain |= {"launch_cooperative_grid": False, "launch_pdl": False, "arg_annotations": [], "kernel_signature": b""}
        return SimpleNamespace(run=SimpleNamespace(launch=launch, **plain), function=0, packed_metadata=())

    triton.JITFunction.run = run
    driver.set_active(SimpleNamespace(get_current_stream=lambda device: 0))
    _serve_cpu_tensors()


_library = torch.library.Library("fastgan", "IMPL")


def _serve_cpu_tensors() -> None:
    from fastgan.ops import _autograd

    torch.cuda.current_device = lambda: None  # a CPU tensor's device has no index
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    _autograd.is_on_gpu = operator.attrgetter("is_cpu")
    for family in FAMILIES:  # the registered ops, too
        kernels = importlib.import_module(f"fastgan.kernels.{family}")
        for name in ("forward", "backward", "double_backward"):
            op = family if name == "forward" else f"{family}_{name}"
            _library.impl(op, getattr(kernels, name), "CPU", allow_override=True)


def _readable(argument: Any) -> Any:
    """A launch's argument; "pointer" for an address, which differs between two calls."""
    if isinstance(argument, torch.Tensor):
        argument = argument.data_ptr()
    if type(argument) is int and argument >= 2**32:
        return "pointer"
    return argument
