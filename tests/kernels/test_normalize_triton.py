"""kernels/normalize.py without a GPU: in the interpreter through fastgan.ops, and compiled ahead of time."""

import json
from itertools import product

import pytest
import torch
from interpreter import errors_of, relative_error, serving_cpu_tensors

from fastgan.ops.normalize import BATCH, _normalize, normalize_reference

pytest.importorskip("triton")

# shape, groups, memory, weights ("", "C", "NC"), dtype
CASES = {
    "group": ((3, 12, 4, 5), 3, "planes", "C", "float64"),
    "group, bare": ((3, 12, 4, 5), 3, "planes", "", "float64"),
    "group, conditional": ((3, 12, 4, 5), 3, "planes", "NC", "float64"),
    "group inside": ((3, 12, 4, 5), 3, "inside", "C", "float64"),
    "group inside, conditional": ((3, 24, 4, 5), 3, "inside", "NC", "float64"),
    "group inside, short runs": ((3, 12, 4, 5), 4, "inside", "C", "float64"),
    "one group": ((5, 7, 3, 3), 1, "planes", "C", "float32"),
    "one group inside": ((5, 7, 3, 3), 1, "inside", "C", "float32"),
    "instance": ((3, 5, 6, 7), 5, "planes", "C", "float32"),
    "instance inside": ((3, 5, 6, 7), 5, "inside", "NC", "float32"),
    "layer": ((9, 37), 1, "planes", "C", "float64"),
    "layer, many rows": ((19, 5), 1, "planes", "C", "float32"),
    "matrix groups": ((9, 36), 4, "planes", "NC", "float32"),
    "batch": ((5, 7, 3, 4), BATCH, "planes", "C", "float64"),
    "batch, bare": ((5, 7, 3, 4), BATCH, "planes", "", "float32"),
    "batch inside": ((5, 7, 3, 4), BATCH, "inside", "C", "float64"),
    "batch, conditional": ((5, 7, 3, 4), BATCH, "planes", "NC", "float64"),
    "batch inside, conditional": ((5, 7, 3, 4), BATCH, "inside", "NC", "float32"),
    "batch of a matrix": ((40, 9), BATCH, "planes", "C", "float32"),
    "batch of large planes": ((2, 3, 50, 41), BATCH, "planes", "C", "float32"),
    "long rows": ((1, 2, 50, 51), 2, "planes", "C", "float32"),
    "long rows inside": ((1, 40, 15, 31), 4, "inside", "C", "float32"),
    "strided": ((4, 6, 5), 2, "sliced", "C", "float32"),
    "one element": ((1, 1, 1), 1, "planes", "C", "float64"),
    "empty": ((0, 4, 3), 2, "planes", "C", "float32"),
    "half": ((3, 12, 4, 5), 3, "planes", "C", "float16"),
    "half in pieces": ((5, 7, 3, 4), BATCH, "inside", "C", "float16"),
    "bfloat16": ((3, 12, 4, 5), 3, "planes", "C", "bfloat16"),
}
# The interpreter cuts a bfloat16 result off where a GPU rounds it: an error of one unit in the last place.
TOLERANCE = {"float64": 1e-12, "float32": 5e-6, "float16": 1e-3, "bfloat16": 1e-2}


def tensor(generator, shape, memory, dtype):
    if memory == "sliced":
        return torch.randn((*shape[:-1], 2 * shape[-1]), generator=generator, dtype=torch.float64).to(dtype)[..., ::2]
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if memory == "inside" else x


def every_derivative(function, groups, eps, inputs, cotangents, asked):
    """The results and derivatives where of (x, weight, bias, grad) those `asked` for require a gradient."""
    x, weight, bias, grad = (
        None if t is None else t.detach().requires_grad_(a) for t, a in zip(inputs, asked, strict=True)
    )
    y, mean, var = function(x, groups, weight, bias, eps)
    results = {"y": y, "mean": mean, "var": var}
    of_first = [(n, t) for n, t in (("x", x), ("w", weight), ("b", bias)) if t is not None and t.requires_grad]
    if not of_first:
        return results
    names, tensors = zip(*of_first, strict=True)
    first = torch.autograd.grad(y, tensors, grad, create_graph=True)
    results |= {f"d{n}": f for n, f in zip(names, first, strict=True)}
    of_second = [(n, t) for n, t in (*of_first, ("g", grad)) if t.requires_grad]
    loss = sum((f * cotangents[n]).sum() for n, f in zip(names, first, strict=True))
    loss = loss + sum((t * 0).sum() for _, t in of_second)  # so that it depends on all of them
    second = torch.autograd.grad(loss, [t for _, t in of_second])
    results |= {f"d{n}'": f for (n, _), f in zip(of_second, second, strict=True)}
    return results


def run_interpreted(name):
    from fastgan.kernels import normalize as kernels

    shape, groups, memory, weights, dtype = CASES[name]
    generator, dtype = torch.Generator().manual_seed(0), getattr(torch, dtype)
    accumulate = torch.float64 if dtype == torch.float64 else torch.float32
    x, grad, h = (tensor(generator, shape, memory, dtype) for _ in range(3))
    affine = [torch.randn(shape[: len(weights)] if weights == "NC" else shape[1], generator=generator, dtype=accumulate)
              for _ in range(4)]  # fmt: skip
    inputs = (x + 0.5, *(affine[:2] if weights else (None, None)), grad)
    cotangents = {"x": h, "w": affine[2], "b": affine[3]}
    exact = [None if t is None else t.double() for t in inputs], {n: t.double() for n, t in cotangents.items()}
    # every combination of what requires a gradient for two cases, all and x alone for the others
    every = name in ("matrix groups", "batch of a matrix")
    errors = {}
    for asked in product([True, False], repeat=4) if every else ((True,) * 4, (True, False, False, True)):
        ours_on_cpu = dtype in (torch.float16, torch.bfloat16) or name == "empty"
        with serving_cpu_tensors("normalize", kernels):
            got = every_derivative(_normalize, groups, 2**-6, inputs, cotangents, asked)
        reference = (
            (_normalize, groups, 2**-6, inputs, cotangents)
            if ours_on_cpu
            else (normalize_reference, groups, 2**-6, *exact)
        )
        want = every_derivative(*reference, asked)
        assert got.keys() == want.keys()
        for label, value in got.items():
            assert value.shape == want[label].shape, label
            if memory == "inside" and label in ("y", "dx"):
                assert value.is_contiguous(memory_format=torch.channels_last), label
            errors[f"{label} {asked}"] = relative_error(value, want[label])
    return errors


def run_far_from_zero(groups, memory):
    """A mean far from zero does not cancel: what its rounding left is kept."""
    from fastgan.kernels import normalize as kernels

    x = tensor(torch.Generator().manual_seed(0), (2, 4, 32, 33), memory, torch.float32) + 1e4
    y, mean, var = kernels.forward(x, None, None, groups, 1e-5)
    want = normalize_reference(x.double(), groups, None, None, 1e-5)
    return {n: (a.double() - b).abs().max().item() for n, a, b in zip(("y", "mean", "var"), (y, mean, var), want)}  # noqa: B905


@pytest.fixture(scope="module")
def interpreted():
    return errors_of(__file__)


@pytest.mark.parametrize("name", CASES)
def test_kernels_in_the_interpreter_equal_the_reference(interpreted, name):
    for label, error in interpreted[name].items():
        assert error < TOLERANCE[CASES[name][4]], label


FAR = list(product([1, 4, BATCH], ["planes", "inside"]))


@pytest.mark.parametrize("groups, memory", FAR)
def test_a_mean_far_from_zero_does_not_cancel(interpreted, groups, memory):
    errors = interpreted[f"far {groups} {memory}"]
    assert errors["y"] < 1e-5
    assert errors["mean"] < 1e-3  # half a unit in the last place
    assert errors["var"] < 2e-6


# --- ahead of time

SCALARS = {"eps": "fp64"} | {
    name: "i32"
    for name in (
        "N",
        "C",
        "S",
        "D",
        "GROUPS",
        "each",
        "UNITS",
        "ROWS",
        "P",
        "pieces",
        "tiles",
        "chunk",
        "entries",
        "count",
    )
}
ACTIVATIONS = {"x", "y", "grad", "h", "dx", "d_grad", "d_x"}
ON_CHIP = {"forward": {}, "backward": {}, "double_backward": {}}
IN_PIECES = {
    "moments": {},
    "finish_moments": {},
    "forward": {},
    "channel_sums": {},
    "finish_sums": {"DOUBLE": True},
    "channel_gradients": {"DOUBLE": True},
    "backward": {},
    "double_backward": {},
}


def compiled(kernel, element, constants, arch, warps):
    import triton.language as tl
    from ahead_of_time import SHARED_MEMORY, compile_ahead

    accumulate = "fp64" if element == "fp64" else "fp32"
    types = {name: f"*{element if name in ACTIVATIONS else accumulate}" for name in kernel.arg_names} | SCALARS
    given = {name: True for name in kernel.arg_names if name.isupper() and name not in SCALARS}
    given |= {"PER_SAMPLE": False, "BATCH": False, "WIDE": False, "A": tl.float64 if element == "fp64" else tl.float32}
    local, shared, _ = compile_ahead(kernel, types, {**given, **constants}, arch, warps)
    assert local == 0
    assert shared <= SHARED_MEMORY[arch]


@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("element", ["fp32", "bf16", "fp64"])
@pytest.mark.parametrize("function", ON_CHIP)
def test_compiled_rows_spill_nothing(function, element, arch):
    from fastgan.kernels import normalize, normalize_rows

    itemsize = {"fp32": 4, "bf16": 2, "fp64": 8}[element]
    largest = normalize.LARGEST_ROW[function] // (2 if element == "fp64" else 1)
    for D, S, layout in ((2, largest // 2, 0), (largest, 1, 1)):
        pd, ps, warps = normalize.row_block(function, D, S, itemsize)
        compiled(
            getattr(normalize_rows, f"normalize_rows_{function}_kernel"),
            element,
            {"LAYOUT": layout, "PD": pd, "PS": ps},
            arch,
            warps,
        )


@pytest.mark.parametrize("arch", [80, 90, 100])
@pytest.mark.parametrize("function", IN_PIECES)
def test_compiled_pieces_spill_nothing(function, arch):
    from fastgan.kernels import normalize, normalize_pieces
    from fastgan.kernels.channels import INSIDE, PLANES, cut

    for element, layout in (("fp32", PLANES), ("bf16", INSIDE)):
        constants = cut(64, 65536, 4096, layout, elements=normalize.PIECE_ELEMENTS).constants | IN_PIECES[function]
        constants |= {"BLOCK": normalize.FINISH_BLOCK}
        compiled(
            getattr(normalize_pieces, f"normalize_pieces_{function}_kernel"),
            element,
            constants,
            arch,
            normalize.PIECE_WARPS,
        )


if __name__ == "__main__":
    from fastgan.kernels import channels, normalize

    channels.ENOUGH_PROGRAMS = normalize.ENOUGH_PROGRAMS = 4  # so that small cases have programs with several tiles
    errors = {name: run_interpreted(name) for name in CASES}
    errors |= {f"far {groups} {memory}": run_far_from_zero(groups, memory) for groups, memory in FAR}
    print(json.dumps(errors))
