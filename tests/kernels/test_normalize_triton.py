"""kernels/normalize.py compiled ahead of time: nothing runs, the compiler's report is checked."""

import pytest

pytest.importorskip("triton")

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
    for D, S, layout in ((2, largest // 2, 0), (largest // 2, 1, 1)):
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
        kernel = getattr(normalize_pieces, f"normalize_pieces_{function}_kernel")
        compiled(kernel, element, constants, arch, normalize.PIECE_WARPS)
