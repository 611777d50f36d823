"""kernels/bias_act.py compiled ahead of time: nothing runs, the compiler's report is checked."""

import pytest

from fastgan.ops.bias_act import ACTIVATIONS

pytest.importorskip("triton")

FUNCTIONS = ["forward", "backward", "double_backward"]
SCALARS = {
    "alpha": "fp64",
    "gain": "fp64",
    "clamp": "fp64",
    "C": "i32",
    "P": "i32",
    "S": "i32",
    "pieces": "i32",
    "tiles": "i32",
}
SUMS = {"bias", "h_bias", "dbias", "d_bias"}


def test_codes_are_those_of_the_table():
    from fastgan.kernels import bias_act as kernels

    codes = {name: getattr(kernels, name.upper()).value for name in ACTIVATIONS}
    assert codes == {name: activation.code for name, activation in ACTIVATIONS.items()}
    assert max(codes.values()) == kernels.LAST_CODE


@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("act, element, layout", [("gelu", "fp32", 2), ("softplus", "bf16", 1), ("elu", "fp64", 0)])
def test_compiled_kernel_spills_nothing(function, act, element, layout, arch):
    import triton.language as tl
    from ahead_of_time import SHARED_MEMORY, compile_ahead
    from fastgan.kernels import bias_act as kernels
    from fastgan.kernels.channels import cut

    kernel, accumulate = getattr(kernels, f"bias_act_{function}_kernel"), "fp64" if element == "fp64" else "fp32"
    types = {name: f"*{accumulate if name in SUMS else element}" for name in kernel.arg_names} | SCALARS
    constants = {name: True for name in kernel.arg_names if name.isupper() and name not in SCALARS}
    constants |= cut(
        128, 4096, 1024, layout, elements=kernels.ELEMENTS[{"bf16": 2, "fp32": 4, "fp64": 8}[element]]
    ).constants
    constants |= {
        "ACT": ACTIVATIONS[act].code,
        "FROM_OUTPUT": False,
        "A": tl.float64 if element == "fp64" else tl.float32,
    }
    local, shared, _ = compile_ahead(kernel, types, constants, arch, kernels.WARPS)
    assert local == 0
    assert shared <= SHARED_MEMORY[arch]
