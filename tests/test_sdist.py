"""A source distribution can be built into the package: every C++ and CUDA file is in it."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_sdist_has_every_source_and_header(tmp_path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for item in ("csrc", "fastgan", "kernels"):
        skip = shutil.ignore_patterns("__pycache__", "*.so", "fashion_mnist")
        shutil.copytree(ROOT / item, checkout / item, ignore=skip)
    for item in ("setup.py", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        shutil.copy(ROOT / item, checkout)
    # Without nvcc the CUDA sources belong to no extension, and belong into the archive all the same.
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=checkout, env={**os.environ, "FASTGAN_CUDA": "0"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        packed = {name.partition("/")[2] for name in tar.getnames()}
    sources = {p.relative_to(ROOT).as_posix() for folder in ("csrc", "kernels") for p in (ROOT / folder).rglob("*.*")}
    sources = {s for s in sources if not s.endswith(".pyc") and "__pycache__" not in s}
    assert len(sources) > 40
    assert sources | {"setup.py", "pyproject.toml", "LICENSE", "README.md"} <= packed
