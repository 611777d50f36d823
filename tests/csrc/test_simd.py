"""The kernels' vector layer on every instruction set that can run here, ARM under emulation included."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def build_and_run(compiler, folder, runner=(), link=()):
    program = folder / "simd_checks"
    flags = ["-std=c++20", "-O2", "-ffp-contract=fast", "-Wno-psabi", f"-I{ROOT / 'csrc'}", f"-I{HERE}"]
    subprocess.run([*compiler, *flags, HERE / "simd_checks.cpp", *link, "-o", program], check=True)
    done = subprocess.run([*runner, program], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("\n")


def test_vectors_are_right_on_every_instruction_set_of_this_processor(tmp_path):
    assert "checked baseline" in build_and_run(os.environ.get("CXX", "c++").split(), tmp_path)


@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64")),
    reason="needs an ARM cross-compiler and qemu-user (Debian: g++-aarch64-linux-gnu qemu-user)",
)
def test_vectors_are_right_on_arm(tmp_path):
    lines = build_and_run(["aarch64-linux-gnu-g++"], tmp_path, runner=["qemu-aarch64"], link=["-static"])
    assert "checked baseline" in lines


@pytest.mark.parametrize("isa", ["baseline", "avx2"])
def test_instruction_set_can_be_lowered(isa):
    """FASTGAN_ISA chooses a lower instruction set, and its results agree with the best one's."""
    code = (
        "import torch, fastgan; from fastgan import _library; torch.manual_seed(0);"
        "w, u, v = torch.randn(9, 37), torch.randn(9), torch.randn(37);"
        "n = fastgan.ops.spectral_norm([w], [u], [v])[0][0];"
        "r = fastgan.ops.spectral_norm_reference([w], [u], [v])[0][0];"
        "torch.testing.assert_close(n, r); print(_library.isa())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "FASTGAN_ISA": isa}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in (isa, "baseline")


def test_unknown_instruction_set_is_reported():
    """In one line, once; the best instruction set serves."""
    code = "import fastgan; from fastgan import _library; print(_library.isa(), _library.isa())"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "FASTGAN_ISA": "nonsense"}, capture_output=True, text=True
    )
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("fastgan:")]
    assert len(lines) == 1 and "FASTGAN_ISA=nonsense" in lines[0]
