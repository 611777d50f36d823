"""Builds fastgan's two extensions: the CPU ops always, the CUDA ops where nvcc answers (a GPU need not be there).

    FASTGAN_CUDA=0|1         leave the CUDA ops out | fail where they cannot be built
    TORCH_CUDA_ARCH_LIST     e.g. "8.0;9.0+PTX" instead of CUDA_ARCHS below
    CXX, NVCC, MAX_JOBS      the compilers, and how many run at once
    FASTGAN_SANITIZE=1       AddressSanitizer and UBSan in the CPU ops (make sanitize)
    FASTGAN_WERROR=1         a compiler's warning is an error

Both are plain shared libraries against the LibTorch stable ABI, without a line of CPython: one wheel serves every torch
from 2.10 on and every Python from 3.10 on. torch's own build helper is not used: it guesses CUDA_HOME, wants a GPU for
its arch list, and insists that nvcc and torch agree on a CUDA version, which the stable ABI does not need.
"""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
# sm_80 code also runs on 8.6 and 8.9, sm_100 on 10.3; PTX of the last one is for what comes later.
CUDA_ARCHS = "7.5;8.0;9.0;10.0;12.0+PTX"
STABLE_ABI = ["-DTORCH_TARGET_VERSION=0x020a000000000000"]  # torch 2.10


def sources(*patterns):
    return sorted(str(p.relative_to(ROOT)) for pattern in patterns for p in ROOT.glob(pattern))


def torch_folder():
    try:
        import torch
    except ImportError:
        sys.exit("fastgan: building needs torch>=2.10: `pip install torch`, or let pip build in isolation")
    return Path(torch.__file__).parent


def toolkit(nvcc):
    """The CUDA toolkit's folder by nvcc's own word (the nvcc on PATH may be a wrapper or a link), or None."""
    try:
        said = subprocess.run([nvcc, "--dryrun", "-c", "-x", "cu", "/dev/null"], capture_output=True, text=True).stderr
    except OSError:
        return None
    top = re.search(r"^#\$ TOP=(.*)$", said, re.M)
    return Path(top[1]).resolve() if top else None


def cuda_toolkit():
    """Where to build the CUDA ops with: (nvcc, toolkit folder), or None after one line that says why not."""
    choice = os.environ.get("FASTGAN_CUDA", "")
    if choice == "0":
        return None
    nvcc = os.environ.get("NVCC") or shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    folder = toolkit(nvcc)
    if folder is None:
        missing = f"{nvcc} does not answer"
    elif not (torch_folder() / "lib" / "libtorch_cuda.so").exists():
        missing = "the torch to build with has no CUDA"
    else:
        return nvcc, folder
    if choice == "1":
        sys.exit(f"fastgan: FASTGAN_CUDA=1, but the CUDA ops cannot be built: {missing}")
    print(f"fastgan: CUDA ops left out ({missing}); the CPU ops are complete without them", file=sys.stderr)
    return None


def arch_flags():
    flags = []
    for arch in re.split(r"[;\s]+", os.environ.get("TORCH_CUDA_ARCH_LIST") or CUDA_ARCHS):
        number, ptx = re.fullmatch(r"(\d+\.\d+a?)(\+PTX)?", arch).groups()
        number = number.replace(".", "")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if ptx:
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


def dependencies(output):
    """What an object was compiled from, as the compiler wrote it beside the object (-MMD)."""
    listed = output.with_suffix(".d")
    return (
        [ROOT / p for p in listed.read_text().partition(":")[2].replace("\\\n", " ").split()] if listed.exists() else []
    )


def is_newer(output, inputs):
    """Whether the object is there, and every input is there and older than it."""
    if not output.exists() or not inputs or not all(p.exists() for p in inputs):
        return False
    return output.stat().st_mtime > max(p.stat().st_mtime for p in inputs)


class Build(build_ext):
    """Compiles every file of both extensions side by side, skipping what is up to date, then links."""

    def build_extensions(self):
        torch = torch_folder()
        self.include = [f"-I{ROOT / 'csrc'}", "-isystem", str(torch / "include")]
        self.link = [f"-L{torch / 'lib'}", "-ltorch", "-ltorch_cpu"]
        self.cxx = os.environ.get("CXX", "c++")
        if shutil.which(self.cxx.split()[0]) is None:
            sys.exit(f"fastgan: no C++ compiler: '{self.cxx}' is not there; install g++ 11 or newer, or set CXX")
        self.write_compile_commands()
        jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
        with ThreadPoolExecutor(jobs) as pool:
            compiling = [[pool.submit(self.compile, source) for source in e.sources] for e in self.extensions]
        for extension, objects in zip(self.extensions, compiling, strict=True):
            self.link_extension(extension, [o.result() for o in objects])

    def write_compile_commands(self):
        """build/compile_commands.json, by which clangd and clang-tidy know the C++ sources."""
        sources = [source for e in self.extensions for source in e.sources if source.endswith(".cpp")]
        flags = [*self.cxx_command(), *STABLE_ABI, *self.include, "-c"]
        entries = [{"directory": str(ROOT), "file": s, "arguments": [*flags, s]} for s in sources]
        (ROOT / "build").mkdir(exist_ok=True)
        (ROOT / "build" / "compile_commands.json").write_text(json.dumps(entries, indent=1))

    def compile(self, source):
        compiler = self.nvcc_command() if source.endswith(".cu") else self.cxx_command()
        command = [*compiler, *STABLE_ABI, *self.include, "-MMD", "-c", source]
        # Not in build_temp, which is a fresh folder for every `pip install -e .`; another command is another object.
        name = hashlib.sha256(" ".join(command).encode()).hexdigest()[:8]
        output = ROOT / "build" / "objects" / f"{source}.{name}.o"
        if is_newer(output, dependencies(output)):
            return str(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        self.call([*command, "-o", str(output)])
        return str(output)

    def cxx_command(self):
        # psabi: a note about vectors wider than the baseline's, which never cross a call here.
        flags = ["-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast"]
        warnings = ["-Wall", "-Wextra", "-Wno-psabi", *(["-Werror"] if os.environ.get("FASTGAN_WERROR") == "1" else [])]
        return [*self.cxx.split(), *flags, *warnings, *self.sanitizers()]

    def nvcc_command(self):
        flags = ["-std=c++20", "-O3", "-lineinfo", "--expt-relaxed-constexpr", "--extended-lambda", "-DUSE_CUDA"]
        host = ["-Xcompiler", "-fPIC,-fvisibility=hidden,-Wno-psabi", "-ccbin", self.cxx]
        return [CUDA[0], *flags, *host, *arch_flags(), f"-I{CUDA[1] / 'include'}"]

    def sanitizers(self):
        if not os.environ.get("FASTGAN_SANITIZE"):
            return []
        return [
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=undefined",
            "-fno-omit-frame-pointer",
            "-g",
            "-O1",
        ]

    def link_extension(self, extension, objects):
        output = Path(self.get_ext_fullpath(extension.name))
        output.parent.mkdir(parents=True, exist_ok=True)
        shared = ["-bundle"] if platform.system() == "Darwin" else ["-shared", "-Wl,--as-needed"]
        libraries = extension.extra_link_args
        self.call([*self.cxx.split(), *shared, *self.sanitizers(), *objects, *self.link, *libraries, "-o", str(output)])

    def call(self, command):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        sys.stderr.write(done.stdout + done.stderr)
        if done.returncode:
            sys.exit(f"fastgan: the command failed: {' '.join(command)}")


extensions = [Extension("fastgan._C", sources("csrc/ops.cpp", "csrc/cpu/*.cpp"), py_limited_api=True)]
CUDA = cuda_toolkit() if sources("csrc/cuda/*.cu") else None
if CUDA:
    # The toolkit's runtime is inside the extension, and its symbols stay there: the extension loads beside a torch for
    # another CUDA version, which has a runtime of another soname.
    static = ["-lcudart_static", "-Wl,--exclude-libs,ALL", "-lrt", "-lpthread", "-ldl"]
    runtime = [f"-L{CUDA[1] / 'lib64'}", "-ltorch_cuda", *static]
    extensions.append(
        Extension("fastgan._CUDA", sources("csrc/cuda/*.cu"), extra_link_args=runtime, py_limited_api=True)
    )

setup(
    packages=[*find_packages(include=["fastgan", "fastgan.*"]), "fastgan.kernels"],
    package_dir={"fastgan.kernels": "kernels"},
    package_data={
        "fastgan": ["py.typed"],
        "fastgan.nn.spectral": ["*.pyi"],
        "fastgan.data.sources": ["fashion_mnist/*"],
        "fastgan.report": ["page/*"],
    },
    ext_modules=extensions,
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
