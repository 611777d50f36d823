"""The contract's cases through the CUDA kernels, thread by thread on the CPU."""

import pytest
import torch

from tests.contract.check import check
from tests.contract.every_op import EVERY_OP, listed

CUDA_OPS = [op for op in EVERY_OP if not op.triton]
CASES = {
    f"{name}, {dtype}": (case, getattr(torch, dtype))
    for name, (_, case) in listed("tiny", "cases", ops=CUDA_OPS).items()
    for dtype in ("float64", "float32", "bfloat16", "float16")
}


@pytest.mark.parametrize("name", CASES)
def test_cuda_kernels_are_right_in_the_emulator(emulated, name):
    case, dtype = CASES[name]
    emulated.configure(schedule="random")
    with emulated.serving_cpu_tensors():
        check(case, dtype)
    assert emulated.launches()
