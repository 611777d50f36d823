"""The sources of csrc/cuda, run thread by thread on the CPU."""

import contextlib
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

import compile_emulated
from cuda_toolkit import ROOT


@dataclass(frozen=True)
class Machine:
    """How the emulator runs a launch. Every access is checked, whatever is set here."""

    schedule: str = "sequential"  # of blocks, and of the ready threads of a block: sequential | reverse | random
    seed: int = 0
    preempt: int = 0  # n: switch threads at about one in n memory accesses, not at barriers alone
    shared_memory: int = 99 * 1024  # bytes that a block can have; the least that a GPU of the list has
    mistake: str = "none"  # planted in the kernels: missing_barrier | out_of_bounds | uninitialised_read
    portable: bool = False  # ucontext fibers


@dataclass(frozen=True)
class Launch:
    kernel: str
    blocks: int
    shared_bytes: int
    read: dict  # bytes requested from global memory, by buffer
    written: dict


class Emulated:
    """The ops of csrc/cuda on CPU tensors: torch.ops.<namespace>.NAME, same schemas as torch.ops.fastgan.NAME."""

    namespace = "fastgan_emulated"

    def __init__(self, module):
        self.module = module
        self.ops = getattr(torch.ops, self.namespace)
        self.configure()

    def configure(self, **settings):
        self.module.configure(**asdict(Machine(**settings)))

    def launches(self):
        """The launches since the last call."""
        return [Launch(*launch) for launch in self.module.take_launches()]

    @contextlib.contextmanager
    def serving_cpu_tensors(self):
        """torch.ops.fastgan.* and all that is built on it run the emulated GPU kernels for CPU tensors."""
        library = torch.library.Library("fastgan", "IMPL")
        for name in op_names():
            library.impl(name, getattr(self.ops, name).default, "CPU", allow_override=True)
        try:
            yield
        finally:
            library._destroy()


def schemas():
    """Those of csrc/ops.cpp, the one place that has them."""
    definitions = re.findall(r'm\.def\(\s*((?:"[^"]*"\s*)+)\)', (ROOT / "csrc" / "ops.cpp").read_text())
    return ["".join(re.findall(r'"([^"]*)"', definition)) for definition in definitions]


def op_names():
    """The ops that have CUDA C++ kernels."""
    sources = "".join(p.read_text() for p in (ROOT / "csrc" / "cuda").glob("*.cu"))
    return re.findall(r'm\.impl\("(\w+)"', sources)


@pytest.fixture(scope="session")
def emulated_module():
    if compile_emulated.missing():
        pytest.skip(f"the CUDA sources are not emulated: {compile_emulated.missing()}")
    library = torch.library.Library(Emulated.namespace, "DEF")
    for schema in schemas():
        library.define(schema)
    sys.path.insert(0, str(compile_emulated.build()))
    import fastgan_emulated

    yield Emulated(fastgan_emulated)
    library._destroy()


@pytest.fixture
def emulated(emulated_module):
    emulated_module.configure()
    emulated_module.launches()
    yield emulated_module
    emulated_module.configure()
