"""The contract's cases through the CUDA kernels, thread by thread on the CPU."""

import pytest
import torch

from tests.contract.check import check, partial_uses
from tests.contract.every_op import EVERY_OP, listed
from tests.contract.test_bad_input import WRONG, passed_with_one_wrong_tensor

CUDA_OPS = [op for op in EVERY_OP if not op.triton]
CASES = {
    f"{name}, {dtype}": (case, getattr(torch, dtype))
    for name, (_, case) in listed("tiny", "cases", ops=CUDA_OPS).items()
    for dtype in ("float64", "float32", "bfloat16", "float16")
    if not case.by_reference
}
TINY = {name: case for name, (_, case) in listed("tiny", ops=CUDA_OPS).items()}
BAD_CALLS = {f"{op.name}: {what}": call for op in CUDA_OPS for what, call in op.bad_raw_calls.items()}


@pytest.fixture
def on_kernels(emulated):
    """torch.ops.fastgan.* run the emulated kernels for CPU tensors."""
    with emulated.serving_cpu_tensors():
        yield emulated


def orders(launches):
    """Which derivatives a kernel has run of."""
    names = [launch.kernel for launch in launches]
    return {next((o for o in ("double_backward", "backward") if f"_{o}_" in name), "forward") for name in names}


@pytest.mark.parametrize("name", CASES)
def test_cuda_kernels_are_right(on_kernels, name):
    case, dtype = CASES[name]
    on_kernels.configure(schedule="random")
    check(case, dtype)
    assert orders(on_kernels.launches()) == {"forward", "backward", "double_backward"}


@pytest.mark.parametrize("name", TINY)
def test_any_part_of_the_gradients_is_right(on_kernels, name):
    for how in partial_uses(TINY[name]):
        check(TINY[name], **how)
    assert on_kernels.launches()


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_input_raises_before_a_launch(on_kernels, name):
    with pytest.raises(RuntimeError):
        BAD_CALLS[name]()
    # Autograd refuses the vectors that require a gradient, after the op has run.
    assert on_kernels.launches() == [] or name.endswith("requires a gradient")


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("op", CUDA_OPS, ids=lambda op: op.name)
def test_a_derivative_with_one_wrong_tensor_raises(on_kernels, op, wrong):
    assert passed_with_one_wrong_tensor(op, wrong) == []


def test_the_cpu_has_its_own_kernels_back_afterwards(emulated):
    case = next(iter(TINY.values()))
    with emulated.serving_cpu_tensors():
        case.ours(**case.inputs())
    assert emulated.launches()
    case.ours(**case.inputs())
    assert not emulated.launches()
