"""kernels/attention.py without a GPU: every kernel runs in Triton's interpreter, and is compiled ahead of time.

TRITON_INTERPRET has to be set before the kernels are imported, so the interpreter runs in a process of its own: this
file, called as a script, prints the relative errors of every case as JSON.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from fastgan.ops import attention_reference

triton = pytest.importorskip("triton")

# B, H, N, M, D, Dv, dtype, causal, bias, who has a cotangent (x, y, z, bias, dL), which of six results are wanted
CASES = {
    "dot": (1, 2, 70, 50, 8, 16, "float32", False, False, "xyz", "101110"),
    "even": (1, 1, 128, 64, 32, 32, "float32", False, True, "xyzb", "101111"),
    "even-half": (1, 1, 128, 128, 32, 16, "float16", False, False, "xyz", "101110"),
    "ragged": (2, 1, 5, 3, 3, 40, "float32", False, True, "xyzb", "101111"),
    "causal": (1, 1, 90, 70, 16, 8, "float32", True, True, "xyzbl", "111111"),
    "causal-wide": (1, 1, 40, 130, 32, 32, "float32", True, False, "xyz", "101110"),
    "one": (1, 1, 1, 1, 1, 1, "float32", False, True, "xyzb", "101111"),
    "half": (1, 2, 70, 90, 32, 20, "float16", False, False, "xyz", "101110"),
    "half-causal": (1, 1, 70, 90, 16, 16, "float16", True, True, "xyzbl", "111111"),
    "only-x": (1, 1, 40, 50, 8, 8, "float32", False, False, "x", "101100"),
    "only-y": (1, 1, 40, 50, 8, 8, "float32", False, False, "y", "100010"),
    "only-z": (1, 1, 40, 50, 8, 8, "float32", False, False, "z", "001110"),
    "only-bias": (1, 1, 40, 50, 8, 8, "float32", False, True, "b", "100001"),
    "no-keys": (1, 1, 6, 0, 4, 4, "float32", False, False, "xyz", "101110"),
    "no-queries": (1, 1, 0, 6, 4, 4, "float32", False, False, "xyz", "101110"),
}
TOLERANCE = {"float32": 2e-5, "float16": 2e-2}


def reference(case, tensors):
    """Every output of the three ops, by autograd in fp64."""
    *_, causal, has_bias, given, _mask = case
    t = {name: value.double() for name, value in tensors.items()}
    for name in ("q", "k", "v", "bias", "grad_out", "grad_lse"):
        t[name].requires_grad_()
    logits = 0.7 * t["q"] @ t["k"].mT + (t["bias"][..., None, :] if has_bias else 0)
    if causal:
        logits = logits.masked_fill(torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    lse = logits.logsumexp(-1) if logits.shape[-1] else torch.full(logits.shape[:-1], float("-inf"))
    out = attention_reference(
        t["q"], t["k"], t["v"], scale=0.7, key_bias=t["bias"] if has_bias else None, is_causal=causal
    )
    inputs = [t["q"], t["k"], t["v"], t["bias"]]
    value = (out * t["grad_out"]).sum() + ((lse * t["grad_lse"]).sum() if "l" in given else 0)
    first = torch.autograd.grad(value, inputs, create_graph=True, materialize_grads=True)
    wanted = [t["grad_out"], t["grad_lse"], *inputs]
    total = sum((g * t[n]).sum() for n, g in zip("xyz", first, strict=False) if n in given)
    total = total + ((first[3] * t["x_bias"]).sum() if "b" in given else 0)
    second = torch.autograd.grad(total, wanted, materialize_grads=True)
    return [out, lse], list(first), list(second)


def run_interpreted(name):
    from fastgan.kernels import attention as kernels

    B, H, N, M, D, Dv, dtype, causal, has_bias, given, mask = case = CASES[name]
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(shape, generator=generator).to(getattr(torch, dtype))

    tensors = {"q": randn(B, H, N, D), "k": randn(B, H, M, D), "v": randn(B, H, M, Dv), "bias": randn(B, H, M).float()}
    tensors |= {"grad_out": randn(B, H, N, Dv), "grad_lse": randn(B, H, N).float()}
    tensors |= {
        "x": randn(B, H, N, D),
        "y": randn(B, H, M, D),
        "z": randn(B, H, M, Dv),
        "x_bias": randn(B, H, M).float(),
    }
    expected = reference(case, tensors)
    t = tensors
    bias = t["bias"] if has_bias else None
    lse_grad = t["grad_lse"] if "l" in given else None
    outs = kernels.forward(t["q"], t["k"], t["v"], bias, 0.7, causal)
    saved = (t["grad_out"], lse_grad, t["q"], t["k"], t["v"], bias, *outs, 0.7, causal)
    first_mask, mask = [True, True, True, has_bias], [bit == "1" for bit in mask]
    first = kernels.backward(*saved, first_mask)
    cotangents = [t[n] if n[0] in given else None for n in ("x", "y", "z")] + [t["x_bias"] if "b" in given else None]
    second = kernels.double_backward(*cotangents, *saved, mask)
    errors = {}
    names = (["out", "lse"], ["dq", "dk", "dv", "dbias"], ["ddo", "ddl", "dq'", "dk'", "dv'", "dbias'"])
    masks = ([True, True], first_mask, mask)
    for group, ours, theirs, wanted in zip(names, (outs, first, second), expected, masks, strict=True):
        for i, (label, a, b) in enumerate(zip(group, ours, theirs, strict=True)):
            if not wanted[i]:
                assert a.numel() == 0, f"{label} is not wanted"
                continue
            same_infinity = a.double() == b.double()
            difference = torch.where(same_infinity, 0.0, a.double() - b).norm()
            errors[label] = (difference / b[b.isfinite()].norm().clamp_min(0.1)).item()
    return errors


@pytest.fixture(scope="module")
def interpreted():
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CASES)
def test_kernels_in_the_interpreter_equal_fp64_autograd(interpreted, name):
    for label, error in interpreted[name].items():
        assert error < TOLERANCE[CASES[name][6]], label


@pytest.mark.parametrize("precision, products", [("tf32", "tf32"), ("ieee", "tf32x3"), ("none", "tf32x3")])
def test_the_precision_that_a_user_sets_by_either_of_torch_s_switches_is_read(precision, products, monkeypatch):
    from fastgan.kernels import attention as kernels

    monkeypatch.setattr(kernels, "_has_room", lambda device: True)
    matmul, q = torch.backends.cuda.matmul, torch.zeros(1)
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = precision
        assert kernels._precision(q, (32, 32)) == products
        matmul.fp32_precision = before
        matmul.allow_tf32 = precision == "tf32"
        assert kernels._precision(q, (32, 32)) == products
    finally:
        matmul.allow_tf32 = False
        matmul.fp32_precision = before


# --- ahead of time: nothing runs, the compiler's report is checked

ARCHS = {80: (163 * 1024, r"HMMA"), 90: (227 * 1024, r"HGMMA|HMMA"), 100: (227 * 1024, r"UTC\w*MMA|HMMA")}
FP32 = {"lse", "delta", "mu", "b", "bias", "dbias", "x_bias", "grad_lse"}
TABLE_OF = {
    "attention_forward_kernel": "forward",
    "attention_backward_rows_kernel": "backward_rows",
    "attention_backward_keys_kernel": "backward_keys",
    "attention_double_rows_first_kernel": "double_rows_first",
    "attention_double_rows_second_kernel": "double_rows_second",
    "attention_double_keys_kernel": "double_keys",
}


def compile_ahead(function, element, width, v_width, precision, arch):
    """(spilled bytes, shared bytes, SASS) of a kernel with everything switched on."""
    from fastgan.kernels import attention as kernels
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(kernels, function)
    itemsize = 4 if element == "fp32" else 2
    widths = kernels.padded(width), kernels.padded(v_width)
    block_n, block_m, warps, stages = kernels.blocks(TABLE_OF[function], widths, itemsize, precision)
    constants = dict(D=width, DV=v_width, PD=widths[0], PDV=widths[1], PRECISION=precision, CAUSAL=False)
    constants |= dict(BLOCK_N=block_n, BLOCK_M=block_m, HAS_BIAS=False, HAS_X_BIAS=False, HAS_GRAD_LSE=False)
    signature, attributes = {}, {}
    for i, name in enumerate(kernel.arg_names):
        if name.isupper() and name not in ("N", "M"):
            signature[name] = "constexpr"
            constants.setdefault(name, True)
        elif name in ("N", "M"):
            signature[name] = "i32"
        elif name == "scale":
            signature[name] = "fp32"
        else:
            signature[name] = "*fp32" if name in FP32 else f"*{element}"
            attributes[(i,)] = [["tt.divisibility", 16]]
    values = {(kernel.arg_names.index(n),): v for n, v in constants.items() if n in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=values, attrs=attributes)
    compiled = triton.compile(
        source, target=GPUTarget("cuda", arch, 32), options=dict(num_warps=warps, num_stages=stages)
    )
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([tools / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True).stdout
        sass = subprocess.run([tools / "nvdisasm", "-c", file.name], capture_output=True, text=True).stdout
    stack = int(re.search(r"STACK:(\d+)", usage)[1])
    spills = Counter(re.findall(r"\b(LDL|STL)\b", sass))
    return stack + sum(spills.values()), compiled.metadata.shared, sass


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("function", TABLE_OF)
def test_compiled_kernel_uses_matrix_instructions_and_spills_little(function, arch):
    limit, instructions = ARCHS[arch]
    spilled, shared, sass = compile_ahead(function, "fp16", 64, 64, "ieee", arch)
    assert re.search(instructions, sass)
    # The blocks were timed on sm_90, where smaller ones that spill nowhere were slower.
    assert spilled <= (0 if arch == 90 else 256)
    assert shared <= limit


@pytest.mark.parametrize("function", TABLE_OF)
@pytest.mark.parametrize(
    "element, widths, precision, arch, kilobytes",
    [("bf16", (128, 128), "ieee", 80, 99), ("fp32", (64, 128), "tf32x3", 90, 227)],  # 99: what a GeForce of 2020 has
)
def test_largest_block_of_a_table_fits_into_shared_memory(function, element, widths, precision, arch, kilobytes):
    _, shared, _ = compile_ahead(function, element, *widths, precision, arch)
    assert shared <= kilobytes * 1024


if __name__ == "__main__":
    print(json.dumps({name: run_interpreted(name) for name in CASES}))
