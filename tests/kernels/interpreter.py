"""Triton kernels in Triton's interpreter, on CPU tensors.

TRITON_INTERPRET has to be set before the kernels are imported, so they run in a process of its own: a test file, called
as a script, prints the relative errors of every case as JSON, and `errors_of` reads them.
"""

import contextlib
import json
import os
import subprocess
import sys

import torch


def errors_of(file):
    """{case: {result: relative error}} as the file prints it."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment["OMP_NUM_THREADS"] = "1"
    done = subprocess.run([sys.executable, file], env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def serving_cpu_tensors(family, kernels):
    """torch.ops.fastgan.FAMILY and its derivatives run the module `kernels` for CPU tensors."""
    library = torch.library.Library("fastgan", "IMPL")
    functions = {"": "forward", "_backward": "backward", "_double_backward": "double_backward"}
    for suffix, function in functions.items():
        library.impl(family + suffix, getattr(kernels, function), "CPU", allow_override=True)
    try:
        yield
    finally:
        library._destroy()


def relative_error(got, want, floor=0.1):
    """Of tensors, in the norm; NaN where a result is not finite that should be."""
    return ((got.double() - want.double()).norm() / want.double().norm().clamp_min(floor)).item()
