"""The cases of group, layer, instance and batch norm."""

from functools import partial

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from fastgan import ops
from fastgan.ops.normalize import BATCH, _normalize, normalize_reference
from tests.contract.layouts import channels_inside, contiguous, every_other, reversed_strides
from tests.contract.op import Case, Op, accumulator

OPS = torch.ops.fastgan


def plain(x, groups, weight, bias, eps):
    """By torch's own functions."""
    rows = weight is not None and weight.dim() == 2  # one weight for each sample and channel
    affine = (None, None) if rows else (weight, bias)
    if groups == BATCH:
        y = F.batch_norm(x, None, None, *affine, True, 0.0, eps)
    else:
        y = F.group_norm(x, groups, *affine, eps)
    if not rows:
        return y
    shape = (*weight.shape, *[1] * (x.dim() - 2))
    return y * weight.view(shape) + bias.view(shape)


def reference(x, groups, weight, bias, eps):
    if x.numel() == 0:  # the mean of nothing is NaN; the sum of nothing is zero
        shape = (-1, x.shape[1], *[1] * (x.dim() - 2))
        return x * weight.view(shape) + bias.view(shape)
    return normalize_reference(x, groups, weight, bias, eps)[0]


def affine_shapes(shape, weights):
    of_one = {"": None, "C": shape[1:2], "NC": shape[:2]}[weights]
    return {"weight": of_one, "bias": of_one} if weights else {}


def normal(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    tensors["x"] += 0.5
    return tensors


def case(name, shape, groups, weights="C", layout=contiguous, eps=2**-6, seed=0):
    """The op behind the four public functions."""

    def call(function):
        return lambda x, weight=None, bias=None: {"y": function(x, groups, weight, bias, eps)}

    ours = call(lambda *args: _normalize(*args)[0])
    tensors = lambda: normal({"x": shape} | affine_shapes(shape, weights), seed)  # noqa: E731
    plains = call(plain) if torch.Size(shape).numel() > 1 else None  # torch refuses a single element
    return Case(name, ours, call(reference), tensors, plains, layout=layout)


def public_case(name, shape, function, torchs, exact, weight_shape):
    """A public function beside torch's."""

    def call(f):
        return lambda x, weight, bias: {"y": f(x, weight, bias)}

    shapes = {"x": shape, "weight": weight_shape, "bias": weight_shape}
    return Case(name, call(function), call(exact), lambda: normal(shapes), call(torchs))


def layer_reference(x, weight, bias):
    rows = x.reshape(-1, weight.numel())
    return normalize_reference(rows, 1, weight.flatten(), bias.flatten())[0].reshape(x.shape)


def public_cases(shape):
    C, last = shape[1], shape[-2:]
    return [
        public_case(
            "group_norm",
            shape,
            lambda x, w, b: ops.group_norm(x, 3, w, b),
            lambda x, w, b: F.group_norm(x, 3, w, b),
            lambda x, w, b: normalize_reference(x, 3, w, b)[0],
            (C,),
        ),
        public_case(
            "layer_norm",
            shape,
            lambda x, w, b: ops.layer_norm(x, last, w, b),
            lambda x, w, b: F.layer_norm(x, last, w, b),
            layer_reference,
            last,
        ),
        public_case(
            "instance_norm",
            shape,
            lambda x, w, b: ops.instance_norm(x, weight=w, bias=b),
            lambda x, w, b: F.instance_norm(x, None, None, w, b),
            lambda x, w, b: normalize_reference(x, C, w, b)[0],
            (C,),
        ),
        public_case(
            "batch_norm",
            shape,
            lambda x, w, b: ops.batch_norm(x, None, None, w, b, training=True),
            lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
            lambda x, w, b: normalize_reference(x, BATCH, w, b)[0],
            (C,),
        ),
    ]


KINDS = {  # shape, groups, weights
    "group": ((3, 12, 4, 5), 3, "C"),
    "group, bare": ((3, 12, 4, 5), 3, ""),
    "group, conditional": ((3, 24, 4, 5), 3, "NC"),
    "group, few channels in each": ((3, 12, 4, 5), 4, "C"),
    "one group": ((5, 7, 3, 3), 1, "C"),
    "instance": ((3, 5, 6, 7), 5, "C"),
    "instance, conditional": ((3, 5, 6, 7), 5, "NC"),
    "batch": ((5, 7, 3, 4), BATCH, "C"),
    "batch, bare": ((5, 7, 3, 4), BATCH, ""),
    "batch, conditional": ((5, 7, 3, 4), BATCH, "NC"),
    "long rows": ((1, 8, 15, 31), 2, "C"),
    "batch of large planes": ((2, 3, 50, 41), BATCH, "C"),
}
LARGE = {
    "large rows": ((1, 4, 130, 131), 2, contiguous),
    "many channels inside": ((1, 40, 64, 65), 4, channels_inside),
    "batch, channels inside": ((2, 3, 90, 91), BATCH, channels_inside),
    "batch": ((9, 12, 40, 33), BATCH, contiguous),
    "instance": ((9, 12, 40, 33), 12, contiguous),
    "layer": ((300, 512), 1, contiguous),
}
HUGE = {
    "group": ((8, 128, 16, 16), 32),
    "one group": ((8, 128, 16, 16), 1),
    "large groups": ((2, 64, 128, 128), 4),
    "instance": ((8, 128, 16, 16), 128),
    "instance of large planes": ((2, 3, 256, 250), 3),
    "layer, ragged": ((37, 1001), 1),
    "batch": ((16, 64, 32, 32), BATCH),
    "batch of a matrix": ((500, 33), BATCH),
}


def check_a_mean_far_from_zero_does_not_cancel(groups, layout, device):
    x = layout(torch.randn(2, 4, 32, 33, generator=torch.Generator().manual_seed(0)) + 1e4)
    y, mean, var = (t.cpu().double() for t in _normalize(x.to(device), groups, None, None, 1e-5))
    want, want_mean, want_var = normalize_reference(x.double(), groups, None, None, 1e-5)
    assert (y - want).abs().max() < 1e-5
    assert (mean - want_mean).abs().max() < 1e-3  # half a unit in the last place
    assert (var - want_var).abs().max() < 2e-6


def raw_calls(dtype=torch.float64):
    calls = []
    for shape, groups, layout in (
        ((2, 6, 3, 2), 3, contiguous),
        ((2, 6, 3, 2), BATCH, channels_inside),
        ((4, 6), 2, contiguous),
    ):
        t = normal({"x": shape, "weight": shape[1:2], "bias": shape[1:2], "grad": shape, "h": shape})
        x, grad, h = (layout(t[name].to(dtype)) for name in ("x", "grad", "h"))
        weight, bias = (t[name].to(accumulator(dtype)) for name in ("weight", "bias"))
        _, mean, var = OPS.normalize(x, weight, bias, groups, 1e-5)
        leaves = [t.clone().requires_grad_() for t in (grad, x, weight, bias)]
        calls.append((OPS.normalize, (*leaves[1:], groups, 1e-5)))
        calls.append((OPS.normalize_backward, (*leaves[:3], mean, var, groups, 1e-5, [True] * 3)))
        calls.append((OPS.normalize_backward, (*leaves[:2], None, mean, var, groups, 1e-5, [True, False, False])))
        second = (h, None, bias, grad, x, weight, mean, var, groups, 1e-5)
        calls.append((OPS.normalize_double_backward, (*second, [True] * 3)))
        calls.append((OPS.normalize_double_backward, (*second, [True, False, False])))
    return calls


def _group(**change):
    return lambda: ops.group_norm(**{"x": X, "num_groups": 3, **change})


X, C = torch.linspace(-1, 1, 480).view(2, 12, 4, 5), torch.ones(12)

OP = Op(
    name="normalize",
    tiny=[
        case("group", (2, 6, 2, 3), 3, eps=1e-5),
        case("group, conditional", (2, 6, 2, 3), 3, "NC"),
        case("group, bare", (2, 6, 2, 3), 3, ""),
        case("batch", (3, 2, 2), BATCH),
        case("batch, channels inside", (3, 2, 2, 2), BATCH, layout=channels_inside),
        case("batch of a matrix, conditional", (4, 3), BATCH, "NC"),
        *public_cases((2, 3, 2, 3)),
    ],
    cases=[
        *(case(name, *kind) for name, kind in KINDS.items()),
        *(case(f"{name}, channels inside", *kind, layout=channels_inside) for name, kind in KINDS.items()),
        case("layer", (9, 37), 1),
        case("layer, many rows", (19, 5), 1),
        case("matrix groups", (5, 36), 4, "NC"),
        case("batch of a matrix", (40, 9), BATCH),
        case("every other element", (4, 6, 5), 2, layout=every_other),
        case("one element", (1, 1, 1), 1),
        case("no samples", (0, 4, 3), 2),
        case("no samples, batch", (0, 4, 3), BATCH),
        *public_cases((3, 12, 4, 5)),
    ],
    large=[case(f"{name}, large", shape, groups, layout=layout) for name, (shape, groups, layout) in LARGE.items()],
    huge=[
        case(f"{name}, {layout.__name__}, huge", shape, groups, layout=layout)
        for name, (shape, groups) in HUGE.items()
        for layout in (contiguous, channels_inside)
    ],
    # eps of the order of the variance: a row of one or two elements is otherwise all rounding
    drawn=st.builds(
        lambda batch, groups, each, space, weights, layout, of_batch, seed: case(
            "drawn", (batch, groups * each, *space), BATCH if of_batch else groups, weights, layout, 0.3, seed
        ),
        st.integers(1, 5),
        st.integers(1, 4),
        st.integers(1, 19),
        st.lists(st.integers(1, 9), max_size=3),
        st.sampled_from(["C", "NC", ""]),
        st.sampled_from([contiguous, channels_inside, every_other, reversed_strides]),
        st.booleans(),
        st.integers(0, 99),
    ),
    raw_calls=raw_calls,
    bad_calls={
        "groups that do not divide": (_group(num_groups=5), ValueError, "num_groups must divide the 12 channels"),
        "no groups": (_group(num_groups=0), ValueError, "num_groups"),
        "x is None": (_group(x=None), TypeError, "x must be a tensor"),
        "x of integers": (_group(x=X.long()), TypeError, "x must be float64"),
        "x is a vector": (_group(x=X[0, :, 0, 0]), ValueError, r"x must be \(N, C"),
        "negative eps": (_group(eps=-1), ValueError, "eps must be at least 0"),
        "short weight": (_group(weight=torch.ones(3)), ValueError, r"weight must have shape \(12,\)"),
        "weight of another dtype": (_group(weight=C.double()), TypeError, "weight must be torch.float32"),
        "weight on another device": (_group(weight=C.to("meta")), TypeError, "weight must be torch.float32"),
        "weight and bias differ": (_group(weight=C, bias=torch.ones(2, 12)), ValueError, "the same shape"),
        "weight is a number": (_group(weight=1.0), TypeError, "weight must be a tensor or None"),
        "another normalized_shape": (lambda: ops.layer_norm(X, 7), ValueError, "x must end in normalized_shape"),
        "layer norm's weight": (
            lambda: ops.layer_norm(X, 5, torch.ones(4)),
            ValueError,
            "weight must have normalized_shape",
        ),
        "one spatial element": (
            lambda: ops.instance_norm(X[:, :, :1, :1]),
            ValueError,
            "more than one spatial element",
        ),
        "one value for each channel": (
            lambda: ops.batch_norm(X[:1, :, :1, :1], None, None, training=True),
            ValueError,
            "more than one value",
        ),
        "no running statistics": (
            lambda: ops.batch_norm(X, None, None),
            ValueError,
            "running_mean and running_var must be given",
        ),
        "short running statistics": (
            lambda: ops.batch_norm(X, torch.zeros(3), torch.ones(3), training=True),
            ValueError,
            "running_mean must have",
        ),
    },
    bad_raw_calls={
        "groups that do not divide": lambda: OPS.normalize(X, C, None, 5, 1e-5),
        "negative groups": lambda: OPS.normalize(X, C, None, -1, 1e-5),
        "x is a vector": lambda: OPS.normalize(X[0, 0, 0], C, None, 3, 1e-5),
        "bias without weight": lambda: OPS.normalize(X, None, C, 3, 1e-5),
        "short weight": lambda: OPS.normalize(X, C[:3], None, 3, 1e-5),
        "integers": lambda: OPS.normalize(X.long(), None, None, 3, 1e-5),
    },
    own={
        f"a mean far from zero does not cancel, {groups} groups, {layout.__name__}": partial(
            check_a_mean_far_from_zero_does_not_cancel, groups, layout
        )
        for groups in (1, 4, BATCH)
        for layout in (contiguous, channels_inside)
    },
    laid_out_like="x",
    wide=("weight", "bias"),
    triton=(torch.float64, torch.float32, torch.bfloat16, torch.float16),
)
