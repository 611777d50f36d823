"""Which nodes of an autograd graph are piecewise linear in the critic's input and keep samples apart.

A node that is not in a table here is refused. Dimension 0 holds the samples, each with the same number of rows beside
one another; a node that is allowed keeps them there. Constants of autograd (masks, indices, detached values) may depend
on the input: autograd takes them as constants, and so do the four passes.
"""

from collections.abc import Callable
from typing import Any

from torch.autograd.function import BackwardCFunction

from fastgan.ops.bias_act import BY_CODE

# One tensor in, one out, and dimension 0 stays as it is.
ROWWISE = {
    *("ReluBackward0", "LeakyReluBackward0", "LeakyReluBackward1", "HardtanhBackward0", "HardtanhBackward1"),
    *("ThresholdBackward0", "ThresholdBackward1", "HardshrinkBackward0", "SoftshrinkBackward0"),
    *("ClampBackward1", "ClampMinBackward0", "ClampMaxBackward0", "AbsBackward0", "NegBackward0", "CloneBackward0"),
    *("ToCopyBackward0", "AliasBackward0", "NativeDropoutBackward0", "MaskedFillBackward0"),
    *("AvgPool2DBackward0", "AvgPool3DBackward0", "AdaptiveAvgPool2DBackward0", "AdaptiveAvgPool3DBackward0"),
    *("MaxPool2DWithIndicesBackward0", "MaxPool3DWithIndicesBackward0"),
    *("AdaptiveMaxPool2DBackward0", "AdaptiveMaxPool3DBackward0"),
    *("ReflectionPad1DBackward0", "ReflectionPad2DBackward0", "ReflectionPad3DBackward0"),
    *("ReplicationPad1DBackward0", "ReplicationPad2DBackward0", "ReplicationPad3DBackward0"),
    *("PixelShuffleBackward0", "PixelUnshuffleBackward0", "GridSampler2DBackward0", "GridSampler3DBackward0"),
    *("Im2ColBackward0", "Col2ImBackward0"),
    *(f"UpsampleNearest{n}DBackward{k}" for n in (1, 2, 3) for k in (0, 1)),
    *(f"UpsampleNearestExact{n}DBackward{k}" for n in (1, 2, 3) for k in (0, 1)),
    *(f"Upsample{kind}Backward{k}" for kind in ("Linear1D", "Bilinear2D", "Bicubic2D", "Trilinear3D") for k in (0, 1)),
    *("UpsampleBilinear2DAaBackward0", "UpsampleBicubic2DAaBackward0"),
}

# Piecewise linear in all of its tensors at once: what is not a function of x gets its gradient from the node itself.
JOINT = {
    *("AddBackward0", "SubBackward0", "SubBackward1", "RsubBackward0", "RsubBackward1"),
    *("WhereBackward0", "MaximumBackward0", "MinimumBackward0", "ClampBackward0"),
    *("CatBackward0", "StackBackward0"),
}

# The elements stay in their order; a new shape leaves each sample's rows together when it has as many per sample.
RESHAPES = {
    *("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "UnsqueezeBackward0"),
    *("SqueezeBackward0", "SqueezeBackward1", "SqueezeBackward2"),
}

# Linear maps with parameters: `maps` has their gradients.
MAPS = {
    *("ConvolutionBackward0", "AddmmBackward0", "MmBackward0", "BmmBackward0", "MulBackward0", "PreluKernelBackward0"),
    *("DivBackward0", "NativeBatchNormBackward0"),
}

# At which place the one tensor has to be that depends on x. A product takes it at either.
PLACE = {
    "ConvolutionBackward0": 0,
    "AddmmBackward0": 1,
    "MmBackward0": 0,
    "BmmBackward0": 0,
    "PreluKernelBackward0": 0,
    "NativeBatchNormBackward0": 0,
    "DivBackward0": 0,
    "GridSampler2DBackward0": 0,
    "GridSampler3DBackward0": 0,
}

NAMES: dict[type, str] = {}


def _one(attribute: str) -> Callable[[Any, int], bool]:
    """The node works along one dimension, which is not that of the samples."""

    def allowed(node: Any, dims: int) -> bool:
        return position_of(getattr(node, attribute), dims) != 0

    return allowed


def _several(attribute: str) -> Callable[[Any, int], bool]:
    def allowed(node: Any, dims: int) -> bool:
        chosen = getattr(node, attribute)
        return bool(chosen) and all(position_of(d, dims) != 0 for d in chosen)  # none chosen means all of them

    return allowed


def _index(node: Any, dims: int) -> bool:
    # Indices of two dimensions or more can move them to the front.
    given = [place for place, index in enumerate(node._saved_indices) if index is not None]
    return len(given) == 1 and given[0] != 0


def _repeat(node: Any, dims: int) -> bool:
    return len(node._saved_repeats) == dims and node._saved_repeats[0] == 1


def _pad(node: Any, dims: int) -> bool:
    return len(node._saved_pad) < 2 * dims


def _permute(node: Any, dims: int) -> bool:
    return position_of(node._saved_dims[0], dims) == 0


def _transpose(node: Any, dims: int) -> bool:
    return position_of(node._saved_dim0, dims) != 0 and position_of(node._saved_dim1, dims) != 0


def _anything(node: Any, dims: int) -> bool:
    return True


ALONG = {
    **dict.fromkeys(("SumBackward1", "MeanBackward1", "AmaxBackward0", "AminBackward0"), _several("_saved_dim")),
    **dict.fromkeys(("MaxBackward0", "MinBackward0", "SelectBackward0", "UnbindBackward0"), _one("_saved_dim")),
    **dict.fromkeys(("SplitBackward0", "SplitWithSizesBackward0", "CumsumBackward0"), _one("_saved_dim")),
    **dict.fromkeys(("IndexSelectBackward0", "GatherBackward0"), _one("_saved_dim")),
    **dict.fromkeys(("FlipBackward0", "RollBackward0"), _several("_saved_dims")),
    "IndexBackward0": _index,
    "RepeatBackward0": _repeat,
    "ConstantPadNdBackward0": _pad,
    "PermuteBackward0": _permute,
    "TransposeBackward0": _transpose,
    # That there are as many rows as before is checked for every node: a slice of all rows is the identity.
    **dict.fromkeys(("ExpandBackward0", "SliceBackward0"), _anything),
}
JOINED = {"CatBackward0": _one("_saved_dim"), "StackBackward0": _one("_saved_dim")}
SAME_RANK = ROWWISE | (JOINT - {"StackBackward0"}) | {"ExpandBackward0", "RepeatBackward0", "ConstantPadNdBackward0"}


def position_of(d: int, dims: int) -> int:
    """A dimension that is counted from the end may be stored as an unsigned number."""
    d = d - (1 << 64) if d >= 1 << 63 else d
    return d + dims if d < 0 else d


def kind(node: Any) -> str | None:
    """The name that the tables know the node by. A Python Function has the name of an op of fastgan, or None."""
    if not isinstance(node, BackwardCFunction):
        name = NAMES.get(type(node))
        if name is None:
            name = node.name()
            if name == type(node).__name__:  # each kind that torch makes has a type of its own
                NAMES[type(node)] = name
        return name
    function = getattr(type(node), "_forward_cls", None)
    if function is None or function.__module__ != "fastgan.ops._autograd":
        return None
    return getattr(function, "op", None)


def refusal(
    node: Any, name: str, inputs: dict[int, tuple[int, ...]], outputs: list[tuple[int, ...]], samples: int
) -> str | None:
    """None if the node is allowed, else what is wrong with it, in words.

    inputs: {position: shape} of the tensors that depend on the critic's input x. outputs: shapes. samples: how many.
    """
    if name == "bias_act":
        return _refuse_bias_act(node, inputs)
    if name in RESHAPES:
        rows = all(shape and shape[0] % samples == 0 for shape in outputs)
        return None if rows else "reshapes the dimension of the samples"
    if name not in ROWWISE and name not in JOINT and name not in MAPS and name not in ALONG:
        return "is not known to be piecewise linear"
    if (name not in JOINT and len(inputs) != 1) or not set(inputs) <= {PLACE.get(name, p) for p in inputs}:
        return "has a factor, a divisor or a parameter that depends on the input"
    if not all(shape and out and shape[0] == out[0] for shape in inputs.values() for out in outputs):
        return "changes the dimension of the samples"
    rank = len(outputs[0])
    if (name in SAME_RANK or name in MAPS) and any(len(shape) != rank for shape in inputs.values()):
        return "changes the dimension of the samples"
    allowed = ALONG.get(name) or JOINED.get(name)
    dims = rank if name in JOINED else len(next(iter(inputs.values())))
    if allowed is not None and not allowed(node, dims):
        return "works along the dimension of the samples"
    if name == "NativeBatchNormBackward0" and node._saved_training:
        return "takes statistics of the batch"
    return None


def _refuse_bias_act(node: Any, inputs: dict) -> str | None:
    if BY_CODE[node.setting[1]].curved:
        return "has a curved activation"
    return None if set(inputs) == {0} else "has a bias that depends on the input"
