"""#include goes one way: the CPU's side and the GPU's side see what is common, and never each other."""

import re
from collections import Counter
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"
FILES = sorted(p for p in CSRC.rglob("*") if p.suffix in (".h", ".cuh", ".cpp", ".cu"))
MAY_INCLUDE = {"ops.cpp": {"cpu"}, "common": {"common"}, "cpu": {"common", "cpu"}, "cuda": {"common", "cuda"}}
# The macro through which the dispatcher of instruction sets includes a kernel header.
INCLUDE = re.compile(r'^\s*#\s*(?:include|define FASTGAN_KERNELS)\s*"([^"]+)"', re.M)
# Compiled several times, inside a namespace; each says so at its top.
WITHOUT_GUARD = {"cpu/simd", "cpu/attention", "cpu/bias_act", "cpu/normalize", "cpu/spectral_norm"}


def name(path):
    return path.relative_to(CSRC).as_posix()


def included(path):
    return set(INCLUDE.findall(path.read_text()))


def room(file):
    return file.split("/")[0]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_side_includes_itself_and_what_is_common(path):
    others = {i for i in included(path) if i != "emulator.h"}  # cuda/device/gpu.h: the emulator in its place
    assert {room(i) for i in others} <= MAY_INCLUDE[room(name(path))]
    assert all((CSRC / i).exists() for i in others), "includes name a file by its path from csrc"


def test_every_rule_is_used():
    used = {(room(name(p)), room(i)) for p in FILES for i in included(p) if "/" in i}
    assert used == {(a, b) for a, others in MAY_INCLUDE.items() for b in others}


def test_every_header_is_included_by_something():
    headers = {name(p) for p in FILES if p.suffix in (".h", ".cuh")}
    assert headers == {i for p in FILES for i in included(p)} & headers


def test_only_the_kernels_of_an_instruction_set_go_without_a_guard():
    bare = {name(p) for p in FILES if p.suffix in (".h", ".cuh") and "#pragma once" not in p.read_text()}
    assert {str(Path(b).parent) for b in bare} <= WITHOUT_GUARD


def test_one_file_knows_of_the_emulator():
    assert [name(p) for p in FILES if "GPU_EMU" in p.read_text()] == ["cuda/device/gpu.h"]


def test_kernels_carry_the_name_of_their_op():
    """A profile shows these names alone."""
    for path in CSRC.glob("cuda/*.cuh"):
        kernels = re.findall(r"__global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(", path.read_text())
        assert kernels, path
        for kernel in kernels:
            assert kernel.startswith(path.stem + "_") and kernel.endswith("_kernel")


def test_no_folder_is_crowded():
    crowds = Counter(p.parent for p in CSRC.rglob("*"))
    assert max(crowds.values()) <= 14, crowds
