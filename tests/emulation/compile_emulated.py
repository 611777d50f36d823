"""Builds the test-only module fastgan_emulated: the sources of csrc/cuda by g++, and the emulator that runs them.

Objects lie in build/emulation under the hash of all that they are made from, so that a second run builds nothing.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor

import pybind11
import torch
from cuda_toolkit import ROOT, include_folder

HERE = ROOT / "tests" / "emulation"
CACHE = ROOT / "build" / "emulation"
TORCH = os.path.dirname(torch.__file__)
KERNELS = [*sorted((ROOT / "csrc" / "cuda").glob("*.cu")), HERE / "planted.cpp"]
EMULATOR = sorted(set(HERE.glob("*.cpp")) - set(KERNELS))

CXX = os.environ.get("CXX", "c++").split()
COMMON = ["-std=c++20", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wno-unknown-pragmas", "-Wno-psabi", "-DGPU_EMU"]
# -fsanitize=thread puts a call around every load and store; the emulator has those functions, libtsan is not linked.
CHECKED = ["-O1", "-g", "-fsanitize=thread", "-DTORCH_TARGET_VERSION=0x020a000000000000"]


def missing():
    """What is not there to build with, in one line, or None."""
    if shutil.which(CXX[0]) is None:
        return f"no C++ compiler {CXX[0]}"
    if include_folder() is None:
        return "no nvcc, and so no CUDA headers: install the CUDA toolkit or set NVCC"
    return None


def flags(source):
    includes = [f"-I{ROOT / 'csrc'}", f"-I{HERE}", "-isystem", str(include_folder())]
    if source in KERNELS:
        return [*COMMON, *CHECKED, *includes, "-isystem", f"{TORCH}/include"]
    if source.name == "module.cpp":  # pybind11 takes the time, optimised or not
        python = sysconfig.get_path("include")
        return [*COMMON, "-O0", *includes, "-isystem", pybind11.get_include(), "-isystem", python]
    return [*COMMON, "-O2", *includes]


def digest(*parts):
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def headers():
    folders = [ROOT / "csrc" / "common", ROOT / "csrc" / "cuda", HERE]
    return "".join(p.read_text() for folder in folders for p in sorted(folder.rglob("*.[ch]*")) if p.suffix != ".cpp")


def compiled(source, all_headers):
    """The object of a source, from the cache or the compiler."""
    command = [*CXX, *flags(source), "-x", "c++", "-c", str(source)]
    name = f"{source.stem}{source.suffix.replace('.', '_')}"
    output = CACHE / f"{name}-{digest(command, torch.__version__, source.read_text(), all_headers)}.o"
    if not output.exists():
        for stale in CACHE.glob(f"{name}-*.o"):
            stale.unlink()
        run([*command, "-o", str(output)])
    return str(output)


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")


def build():
    """The folder that the module can be imported from."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several test processes, one builds
        all_headers = headers()
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
            # the longest first
            objects = list(pool.map(lambda source: compiled(source, all_headers), [*KERNELS, *reversed(EMULATOR)]))
        folder = CACHE / digest(*reversed(objects))
        library = folder / f"fastgan_emulated{sysconfig.get_config_var('EXT_SUFFIX')}"
        if not library.exists():
            folder.mkdir(exist_ok=True)
            # Its __tsan functions before those of another library: -Bsymbolic. The emulator's objects first: the linker
            # keeps the first copy of a template, and the emulator must not call one that calls the emulator.
            link = ["-shared", "-Wl,-Bsymbolic", *reversed(objects), f"-L{TORCH}/lib", "-ltorch", "-ltorch_cpu", "-ldl"]
            partial = library.with_suffix(".partial")
            run([*CXX, *link, "-o", str(partial)])
            partial.rename(library)
    return folder
