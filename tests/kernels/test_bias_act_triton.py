"""kernels/bias_act.py without a GPU: in the interpreter through fastgan.ops, and compiled ahead of time."""

import json

import pytest
import torch
from interpreter import errors_of, relative_error, serving_cpu_tensors

from fastgan.ops import bias_act
from fastgan.ops.bias_act import ACTIVATIONS, bias_act_reference

pytest.importorskip("triton")

# shape, dim, memory, dtype, setting
CASES = {
    **{a: ((3, 5, 4, 3), 1, "planes", "float64", {"act": a, "gain": 1.7}) for a in ACTIVATIONS},
    **{f"{a} clamped": ((3, 5, 7), 1, "planes", "float64", {"act": a, "gain": -0.6, "clamp": 1}) for a in ACTIVATIONS},
    **{f"{a} single": ((2, 5, 4, 3), 1, "inside", "float32", {"act": a}) for a in ACTIVATIONS},
    "many samples": ((40, 3, 8, 8), 1, "planes", "float32", {"act": "silu"}),
    "long planes": ((2, 3, 1500), 1, "planes", "float32", {"act": "gelu"}),
    "matrix": ((70, 33), 1, "planes", "float32", {"act": "tanh"}),
    "vector": ((70,), 0, "planes", "float32", {"act": "elu", "alpha": 0.7}),
    "first dimension": ((6, 33), 0, "planes", "float32", {"act": "softplus"}),
    "strided": ((4, 6, 5), 1, "sliced", "float32", {"act": "silu", "gain": 0.0}),
    "empty": ((0, 3, 4), 1, "planes", "float32", {"act": "silu"}),
    "half": ((3, 5, 4, 3), 1, "planes", "float16", {"act": "silu"}),
    "bfloat16": ((3, 5, 4, 3), 1, "inside", "bfloat16", {"act": "gelu", "clamp": 0.9}),
}  # fmt: skip
TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 1e-3, "bfloat16": 8e-3}


def tensor(generator, shape, memory, dtype):
    if memory == "sliced":
        return torch.randn((*shape[:-1], 2 * shape[-1]), generator=generator, dtype=torch.float64).to(dtype)[..., ::2]
    x = 2 * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if memory == "inside" else x


def every_derivative(function, x, bias, grad, h, h_bias, dim, setting):
    y = function(x, bias, dim=dim, **setting)
    first = torch.autograd.grad(y, (x, bias), grad, create_graph=True)
    second = torch.autograd.grad(first, (x, bias, grad), (h, h_bias), materialize_grads=True)
    alone = function(x, None, dim=dim, **setting)  # without a bias, and with the bias' gradient alone
    (g,) = torch.autograd.grad(alone, x, grad, create_graph=True)
    (gg,) = torch.autograd.grad(g, grad, h)
    return dict(
        zip(("y", "dx", "db", "dx'", "db'", "dg'", "alone", "g", "gg"), (y, *first, *second, alone, g, gg), strict=True)
    )


def run_interpreted(name):
    from fastgan.kernels import bias_act as kernels

    shape, dim, memory, dtype, setting = CASES[name]
    generator, dtype = torch.Generator().manual_seed(0), getattr(torch, dtype)
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    x, grad, h = (tensor(generator, shape, memory, dtype) for _ in range(3))
    bias, h_bias = (torch.randn(shape[dim], generator=generator, dtype=accumulate) for _ in range(2))
    args = [t.requires_grad_() for t in (x, bias, grad)]
    with serving_cpu_tensors("bias_act", kernels):
        got = every_derivative(bias_act, *args, h, h_bias, dim, setting)
    if dtype in (torch.float16, torch.bfloat16):  # what a backward finds is the rounded y, and so does the CPU op
        want = every_derivative(bias_act, *args, h, h_bias, dim, setting)
    else:
        double = [t.detach().double().requires_grad_() for t in args]
        want = every_derivative(bias_act_reference, *double, h.double(), h_bias.double(), dim, setting)
    for label, value in got.items():
        assert value.shape == want[label].shape, label
        if memory == "inside" and value.dim() == 4:
            assert value.is_contiguous(memory_format=torch.channels_last), label
    return {label: relative_error(value, want[label]) for label, value in got.items()}


@pytest.fixture(scope="module")
def interpreted():
    return errors_of(__file__)


@pytest.mark.parametrize("name", CASES)
def test_kernels_in_the_interpreter_equal_the_reference(interpreted, name):
    for label, error in interpreted[name].items():
        assert error < TOLERANCE[CASES[name][3]], label


def test_codes_are_those_of_the_table():
    from fastgan.kernels import bias_act as kernels

    codes = {name: getattr(kernels, name.upper()).value for name in ACTIVATIONS}
    assert codes == {name: activation.code for name, activation in ACTIVATIONS.items()}
    assert max(codes.values()) == kernels.LAST_CODE


# --- ahead of time

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


if __name__ == "__main__":
    from fastgan.kernels import channels

    channels.ENOUGH_PROGRAMS = 4  # so that small cases have programs with several tiles
    print(json.dumps({name: run_interpreted(name) for name in CASES}))
