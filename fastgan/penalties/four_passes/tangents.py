"""The tangent of a node's output from the tangents of its inputs.

A node of autograd's graph is the transpose of the linear function that is wanted here. An elementwise function is its
own transpose. Sums, shapes and averages are written out, `linear` has the products. Any other node is called with a
seed, and differentiated by the seed.
"""

from collections.abc import Callable
from typing import Any

import torch

from fastgan.penalties.four_passes.linear import LINEAR
from fastgan.penalties.four_passes.nodes import RESHAPES, position_of

Tangents = dict[int, torch.Tensor]
OfSeeds = tuple[torch.Tensor | None, ...]

ELEMENTWISE = {
    *("ReluBackward0", "LeakyReluBackward0", "LeakyReluBackward1", "HardtanhBackward0", "HardtanhBackward1"),
    *("ThresholdBackward0", "ThresholdBackward1", "HardshrinkBackward0", "SoftshrinkBackward0"),
    *("ClampBackward1", "ClampMinBackward0", "ClampMaxBackward0", "AbsBackward0", "NegBackward0", "CloneBackward0"),
    *("AliasBackward0", "NativeDropoutBackward0"),
}


def tangents(node: Any, name: str, given: Tangents) -> Tangents:
    """{output: tangent} from {position: tangent}; what is left out is zero. A node without parameters."""
    if not given:
        return {}
    about = node._input_metadata
    if len(about) == 1:
        if name in ELEMENTWISE:
            return {0: node(given[0])}
        if name in RESHAPES:
            return {0: given[0].reshape(about[0].shape)}
        if name in WRITTEN_OUT:
            moved = WRITTEN_OUT[name](node, given)
            moved = moved if moved.shape == about[0].shape else moved.expand(about[0].shape)
            return {0: moved if moved.dtype == about[0].dtype else moved.to(about[0].dtype)}
        if name == "bias_act":
            return {0: node.apply(given[0])[0]}
        if name in LINEAR:
            ((at, t),) = given.items()
            return {0: LINEAR[name](node, at).tangent(t)}
    seeds = [torch.zeros(a.shape, dtype=a.dtype, device=a.device) for a in about]
    return transposed(node, given, seeds)[0]


def transposed(node: Any, given: Tangents, seeds: list[torch.Tensor]) -> tuple[Tangents, OfSeeds]:
    """({output: tangent}, what the node makes of the seeds). The tangent does not depend on the seeds."""
    with torch.enable_grad():
        seeds = [seed.detach().requires_grad_() for seed in seeds]
        made = node(*seeds)
    made = made if isinstance(made, tuple) else (made,)
    used = [p for p in given if made[p] is not None and made[p].requires_grad]
    if not used:
        return {}, made
    # The engine, not the node, sums over what was broadcast and casts.
    along = [given[p].expand(made[p].shape).to(made[p].dtype) for p in used]
    moved = torch.autograd.grad([made[p] for p in used], seeds, along, allow_unused=True)
    return {k: t for k, t in enumerate(moved) if t is not None}, made


def _sum(scaled: int, sign: int) -> Callable:
    """A sum whose operand at the position `scaled` has the factor sign * alpha."""

    def moved(node: Any, given: Tangents) -> torch.Tensor:
        factor = sign * node._saved_alpha
        parts = [t if p != scaled or factor == 1 else t * factor for p, t in given.items()]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    return moved


def _itself(node: Any, given: Tangents) -> torch.Tensor:
    return given[0]  # the dtype and the shape are those of the node's output


def _reduced(reduce: Callable) -> Callable:
    def moved(node: Any, given: Tangents) -> torch.Tensor:
        t = given[0]
        return reduce(t, [position_of(d, t.dim()) for d in node._saved_dim], node._saved_keepdim)

    return moved


def _transposed_dims(node: Any, given: Tangents) -> torch.Tensor:
    t = given[0]
    return t.transpose(position_of(node._saved_dim0, t.dim()), position_of(node._saved_dim1, t.dim()))


def _permuted(node: Any, given: Tangents) -> torch.Tensor:
    t = given[0]
    return t.permute([position_of(d, t.dim()) for d in node._saved_dims])


def _averaged(node: Any, given: Tangents) -> torch.Tensor:
    n = node
    setting = n._saved_kernel_size, n._saved_stride, n._saved_padding, n._saved_ceil_mode, n._saved_count_include_pad
    return torch.ops.aten.avg_pool2d(given[0], *setting, n._saved_divisor_override)


WRITTEN_OUT = {
    "AddBackward0": _sum(1, 1),
    "SubBackward0": _sum(1, -1),
    "SubBackward1": _sum(1, -1),
    "RsubBackward0": _sum(0, -1),
    "RsubBackward1": _sum(0, -1),
    "ToCopyBackward0": _itself,
    "ExpandBackward0": _itself,
    "SumBackward1": _reduced(torch.sum),
    "MeanBackward1": _reduced(torch.mean),
    "TransposeBackward0": _transposed_dims,
    "PermuteBackward0": _permuted,
    "AvgPool2DBackward0": _averaged,
}
