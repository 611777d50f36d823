"""The same cases through the Triton kernels in the interpreter, and through every GPU kernel on a GPU.

tests/emulation/test_contract_in_the_emulator.py has the CUDA kernels without a GPU.
"""

import functools
import importlib.util

import pytest
import torch

from tests.contract.check import check
from tests.contract.elsewhere import failures, interpreted
from tests.contract.every_op import EVERY_OP, listed

OWN = {f"{op.name}: {what}": (op, holds) for op in EVERY_OP for what, holds in op.own.items()}
IN_THE_INTERPRETER = interpreted()
ON_A_GPU = {
    f"{name}, {dtype}": (case, getattr(torch, dtype))
    for name, (_, case) in listed("tiny", "cases", "large", "huge").items()
    for dtype in ("float64", "float32", "bfloat16", "float16")
}


failures_in_the_interpreter = functools.cache(functools.partial(failures, "interpreter", TRITON_INTERPRET="1"))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("name", IN_THE_INTERPRETER)
def test_triton_kernels_are_right_in_the_interpreter(name):
    failure = failures_in_the_interpreter(*IN_THE_INTERPRETER[name])[name]
    assert failure is None, failure


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", ON_A_GPU)
def test_kernels_are_right_on_a_gpu(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)  # fp32 is fp32
    case, dtype = ON_A_GPU[name]
    check(case, dtype, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("name", OWN)
def test_what_one_op_promises_holds_on_a_gpu(name):
    OWN[name][1]("cuda")
