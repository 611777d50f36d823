"""Where the CUDA toolkit is, by nvcc's own word: the nvcc on PATH may be a wrapper, CUDA_HOME a wrong guess."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def nvcc():
    return os.environ.get("NVCC") or shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"


@functools.cache
def include_folder():
    """The folder of cuda_runtime.h, or None without nvcc."""
    try:
        said = subprocess.run([nvcc(), "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True).stderr
    except OSError:
        return None
    folders = [Path(folder) for folder in re.findall(r'-I([^"\s]+)', said)]
    return next((folder.resolve() for folder in folders if (folder / "cuda_runtime.h").exists()), None)


def archs():
    """The compute capabilities that fastgan is built for, as in setup.py: "80", "90" ..."""
    listed = re.search(r'^CUDA_ARCHS = "([^"]+)"', (ROOT / "setup.py").read_text(), re.M)[1]
    return [arch.removesuffix("+PTX").replace(".", "") for arch in listed.split(";")]
