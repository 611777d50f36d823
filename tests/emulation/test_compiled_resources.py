"""nvcc compiles every kernel for every GPU of the list, without spilling a register or using local memory."""

import hashlib
import re
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cuda_toolkit import ROOT, archs, include_folder, nvcc

CUDA = ROOT / "csrc" / "cuda"
CACHE = ROOT / "build" / "resources"
KERNEL_HEADERS = sorted(CUDA.glob("*.cuh"))
FLAGS = ["-std=c++20", "-O3", "--expt-relaxed-constexpr", "--extended-lambda", f"-I{ROOT / 'csrc'}"]
TYPES = ["float", "double", "__half", "__nv_bfloat16"]

pytestmark = pytest.mark.skipif(include_folder() is None, reason="no nvcc: install the CUDA toolkit or set NVCC")


def kernels(header):
    return re.findall(r"__global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(", header.read_text())


def source(header):
    """A file that instantiates every kernel of a header for every type; without torch, so that it takes seconds."""
    pointers = ", ".join(f"&{kernel}<T>" for kernel in kernels(header))
    instances = ", ".join(f"all<{t}>()" for t in TYPES)
    return f"""#include <tuple>
#include "cuda/{header.name}"
namespace fastgan {{
template <class T> auto all() {{ return std::tuple({pointers}); }}
auto instances = std::tuple({instances});
}}"""


def compile_for(arch, text):
    """The report of ptxas on the kernels, from its text."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernels.cu"
        file.write_text(text)
        command = [nvcc(), *FLAGS, f"-arch=sm_{arch}", "-Xptxas", "-v", "-cubin", str(file), "-o", f"{folder}/cubin"]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:4000]
    return done.stderr


def resources(header, arch):
    """The same for a header's kernels, kept from run to run."""
    text = source(header)
    included = [*sorted((ROOT / "csrc" / "common").glob("*.h")), *sorted((CUDA / "device").glob("*.h"))]
    parts = [text, arch, *FLAGS, *(p.read_text() for p in (header, *included))]
    report = CACHE / f"{header.stem}-{arch}-{hashlib.sha256(''.join(parts).encode()).hexdigest()[:16]}.txt"
    if not report.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        for stale in CACHE.glob(f"{header.stem}-{arch}-*.txt"):
            stale.unlink()
        report.write_text(compile_for(arch, text))
    return report.read_text()


def local_memory(report):
    """(stack frame, spill stores, spill loads) in bytes, of every kernel in a report."""
    found = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert len(found) == report.count("Compiling entry function") > 0
    return [tuple(map(int, kernel)) for kernel in found]


@pytest.fixture(scope="module")
def reports():
    """All compilations, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        reports = {(h, arch): pool.submit(resources, h, arch) for h in KERNEL_HEADERS for arch in archs()}
        yield reports


@pytest.mark.parametrize("arch", archs())
@pytest.mark.parametrize("header", KERNEL_HEADERS, ids=lambda h: h.stem)
def test_kernels_compile_without_spills_or_local_memory(header, arch, reports):
    used = local_memory(reports[header, arch].result())
    assert len(used) == len(kernels(header)) * len(TYPES)
    assert set(used) == {(0, 0, 0)}


def test_an_array_in_local_memory_is_noticed():
    kernel = """__global__ void indexed(int* p, int i) {
      int values[64];
      for (int k = 0; k < 64; k++) values[p[k] % 64] = k;
      p[0] = values[i];
    }"""
    ((stack, _, _),) = local_memory(compile_for(archs()[-1], kernel))
    assert stack >= 256
