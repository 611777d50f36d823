"""kernels/attention.py compiled ahead of time: nothing runs, the compiler's report is checked."""

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton")

ARCHS = {80: (163 * 1024, r"HMMA"), 90: (227 * 1024, r"HGMMA|HMMA"), 100: (227 * 1024, r"UTC\w*MMA|HMMA")}
FP32 = {"lse", "log_sum", "delta", "mu", "b", "bias", "dbias", "x_bias", "grad_lse"}
TABLE_OF = {
    "attention_forward_kernel": "forward",
    "attention_backward_rows_kernel": "backward_rows",
    "attention_backward_keys_kernel": "backward_keys",
    "attention_double_rows_first_kernel": "double_rows_first",
    "attention_double_rows_second_kernel": "double_rows_second",
    "attention_double_keys_kernel": "double_keys",
}


def compile_ahead(function, element, width, v_width, precision, arch, block=None):
    """(spilled bytes, shared bytes, SASS) of a kernel with everything switched on."""
    from fastgan.kernels import attention as kernels
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(kernels, function)
    itemsize = 4 if element == "fp32" else 2
    widths = kernels.padded(width), kernels.padded(v_width)
    block = block or kernels.blocks(TABLE_OF[function], widths, itemsize, precision)
    block_n, block_m, warps, stages = block
    constants = dict(D=width, DV=v_width, PD=widths[0], PDV=widths[1], PRECISION=precision, CAUSAL=False)
    constants |= dict(NEED_DBIAS=False)
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


def innermost_loop(sass):
    """How many times each instruction is in the longest loop."""
    lines, labels, loops = [], {}, [Counter()]
    for line in sass.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(lines)
        elif instruction := re.search(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?(.*?);", line):
            lines.append(instruction[1])
            back = re.search(r"BRA.*`\((\.L_\w+)\)", instruction[1])
            if back and back[1] in labels:
                loops.append(Counter(text.split()[0].split(".")[0] for text in lines[labels[back[1]] :]))
    return max(loops, key=Counter.total)


@pytest.mark.parametrize(
    "function, element, width, precision, most",
    [
        ("attention_backward_keys_kernel", "bf16", 32, "ieee", 290),
        ("attention_double_keys_kernel", "bf16", 32, "ieee", 525),
        ("attention_double_keys_kernel", "fp32", 32, "tf32x3", 3300),
        ("attention_double_rows_second_kernel", "bf16", 128, "ieee", 820),
    ],
)
def test_a_loop_keeps_scores_in_registers(function, element, width, precision, most):
    """On a GPU of 2022: warp groups multiply, nothing is spilled, instructions of a warp for 1024 scores are few."""
    from fastgan.kernels import attention as kernels

    spilled, _, sass = compile_ahead(function, element, width, width, precision, 90)
    loop = innermost_loop(sass)
    widths = kernels.padded(width), kernels.padded(width)
    block_n, block_m, warps, _ = kernels.blocks(TABLE_OF[function], widths, 4 if element == "fp32" else 2, precision)
    assert spilled == 0
    assert loop["HGMMA"] > 0 and loop["HMMA"] == 0
    assert loop.total() * warps * 1024 <= most * block_n * block_m


@pytest.mark.parametrize("function", TABLE_OF)
@pytest.mark.parametrize(
    "element, widths, precision, arch, kilobytes",
    [("bf16", (128, 128), "ieee", 80, 99), ("fp32", (64, 128), "tf32x3", 90, 227)],  # 99: what a GeForce of 2020 has
)
def test_a_block_or_a_smaller_one_fits_into_shared_memory(function, element, widths, precision, arch, kilobytes):
    from fastgan.kernels import attention as kernels

    itemsize = 4 if element == "fp32" else 2
    block = kernels.blocks(TABLE_OF[function], tuple(map(kernels.padded, widths)), itemsize, precision)
    falls = 0
    while compile_ahead(function, element, *widths, precision, arch, block)[1] > kilobytes * 1024:
        block, falls = kernels.smaller(block), falls + 1
        assert falls <= 2


class Recorded:
    """Steps that launch nothing; a block of more rows than fit does not get the shared memory."""

    def __init__(self, most_rows):
        self.most_rows, self.launched = most_rows, []

    def contiguous(self, tensor):
        return tensor

    def launch(self, kernel, grid, *, stages, BLOCK_N, BLOCK_M, EVEN, **arguments):
        if max(BLOCK_N, BLOCK_M) > self.most_rows or stages > 1:
            raise triton.runtime.errors.OutOfResources(112 * 1024, 99 * 1024, "shared memory")
        self.launched.append((grid, BLOCK_N, BLOCK_M, EVEN))


def problem(steps, heads, rows):
    from fastgan.kernels import attention as kernels

    q = torch.zeros(1, 1, 1, 1, dtype=torch.float16).expand(heads, 1, rows, 64)
    return kernels._Problem(steps, q, q, q, None, 1.0, False)


@pytest.mark.parametrize("most_rows, block", [(64, (64, 64)), (63, (32, 32)), (16, (16, 16))])
def test_what_exceeds_shared_memory_goes_to_smaller_blocks(most_rows, block):
    steps = Recorded(most_rows)
    problem(steps, 3, 96).launch(None, "backward_keys", True)
    ((grid, *blocks, even),) = steps.launched
    assert tuple(blocks) == block
    assert grid[0] == 3 * -(-96 // block[1]) and even == (96 % block[0] == 0)


def test_what_exceeds_shared_memory_in_the_smallest_blocks_raises():
    with pytest.raises(triton.runtime.errors.OutOfResources):
        problem(Recorded(15), 3, 96).launch(None, "backward_keys", True)


@pytest.mark.parametrize("by_keys", [False, True])
def test_more_heads_than_a_grid_s_second_axis_holds(by_keys):
    steps = Recorded(64)
    problem(steps, 65_536, 64).launch(None, "backward_keys", by_keys)
    ((grid, *_),) = steps.launched
    assert grid[0] >= 65_536 and max(grid[1:]) < 65_536


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
