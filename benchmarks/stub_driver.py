"""The host's side of the GPU path without a GPU: Triton's own launcher on a driver that does nothing.

`install` lets CPU tensors take every step of CUDA tensors up to the launch: the Triton kernels are compiled for a
Hopper GPU and launched by Triton's launcher on `stub_cuda.c`. So launches, Python frames and the host's time can be
measured. Results are whatever was in memory. For a process of its own: nothing undoes it.
"""

import atexit
import ctypes
import operator
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch


def install(observe: Callable | None = None) -> Callable[[], int]:
    """Returns the count of launches so far. observe(name, grid, arguments), if given, is called at every launch."""
    folder = tempfile.mkdtemp(prefix="fastgan-stub-driver-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = Path(folder, "libcuda.so.1")
    source = Path(__file__).with_name("stub_cuda.c")
    compiler = [os.environ.get("CC", "cc"), "-shared", "-fPIC", "-O2", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([*compiler, "-o", library, source], check=True)
    Path(folder, "libcuda.so").symlink_to(library)
    os.environ["TRITON_LIBCUDA_PATH"] = folder
    launches = ctypes.CDLL(str(library)).stub_launches  # loaded first, so that Triton's driver finds it by its name
    launches.restype = ctypes.c_long

    from triton.backends.nvidia.driver import CudaDriver, CudaLauncher
    from triton.runtime import driver

    from fastgan.ops import _triton

    class ObservedLauncher(CudaLauncher):
        def __init__(self, source, metadata):
            super().__init__(source, metadata)
            self.name = metadata.name

        def __call__(self, x, y, z, stream, function, *others):
            arguments = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in others[4:]]
            observe(self.name, (x, y, z), arguments)
            super().__call__(x, y, z, stream, function, *others)

    torch.cuda.current_device = lambda: None  # a CPU tensor's device has no index
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    stub = CudaDriver()
    stub.get_current_device = lambda: 0
    stub.get_current_stream = lambda device: 0
    stub.get_device_capability = lambda device=0: (9, 0)
    if observe:
        stub.launcher_cls = ObservedLauncher
    driver.set_active(stub)
    _triton.is_on_gpu = operator.attrgetter("is_cpu")
    return launches
