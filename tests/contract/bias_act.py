"""The cases of bias and activation."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from fastgan.ops import bias_act, bias_act_reference
from fastgan.ops.bias_act import ACTIVATIONS
from tests.contract.layouts import channels_inside, contiguous, every_other, reversed_strides
from tests.contract.op import Case, Op, accumulator

OPS = torch.ops.fastgan
PLAIN = {
    "linear": lambda z, alpha: z,
    "relu": lambda z, alpha: F.relu(z),
    "leaky_relu": F.leaky_relu,
    "silu": lambda z, alpha: F.silu(z),
    "gelu": lambda z, alpha: F.gelu(z),
    "softplus": lambda z, alpha: F.softplus(z, threshold=1e9),
    "sigmoid": lambda z, alpha: torch.sigmoid(z),
    "tanh": lambda z, alpha: torch.tanh(z),
    "elu": F.elu,
}


def plain(x, bias=None, *, dim=1, act="leaky_relu", alpha=0.2, gain=1.0, clamp=None):
    """By torch's own functions, one after the other."""
    if bias is not None:
        x = x + bias.reshape([-1 if d == dim else 1 for d in range(x.dim())])
    y = PLAIN[act](x, alpha) * gain
    return y if clamp is None else y.clamp(-clamp, clamp)


def case(name, shape=(4, 6, 9, 5), dim=1, bias=True, layout=contiguous, seed=0, **setting):
    def tensors():
        generator = torch.Generator().manual_seed(seed)
        x = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
        b = torch.randn(shape[dim : dim + 1], generator=generator, dtype=torch.float64)
        if bias:
            z = x + b.reshape([-1 if d == dim else 1 for d in range(x.dim())])
            x = torch.where(z.abs() < 0.05, x + 0.2, x)  # so that rounding takes none over the kink
        return {"x": x, "bias": b} if bias else {"x": x}

    def call(function):
        return lambda x, bias=None: {"y": function(x, bias, dim=dim, **setting)}

    return Case(name, call(bias_act), call(bias_act_reference), tensors, call(plain), layout=layout, float32=5e-6)


SETTINGS = {
    "": {},
    ", gain 1.7": {"gain": 1.7},
    ", gain -0.6, clamped": {"gain": -0.6, "clamp": 0.9},
    ", gain 0": {"gain": 0.0},
    ", alpha -0.3": {"alpha": -0.3},
    ", alpha 0": {"alpha": 0.0},
}


def with_settings():
    for act in ACTIVATIONS:
        for label, setting in SETTINGS.items():
            if "alpha" in setting and act not in ("leaky_relu", "elu"):
                continue  # it has no meaning for the others
            if act == "elu" and setting.get("alpha") == 0:
                continue  # F.elu itself refuses a second derivative there
            yield case(f"{act}{label}", act=act, **setting)
        yield case(f"{act}, channels inside", act=act, layout=channels_inside)


def check_float32_on_the_whole_line(act, device):
    x = torch.cat([torch.linspace(-30, 30, 20001), torch.linspace(-1e-3, 1e-3, 1001), torch.tensor([-1e4, -1e2, 1e2])])
    exact = x.double().requires_grad_()
    x = x.to(device).requires_grad_()
    y, want = bias_act(x, act=act), plain(exact, act=act)
    (g,), (want_g,) = (torch.autograd.grad(out.sum(), at, create_graph=True) for out, at in ((y, x), (want, exact)))
    floor = 1.0 if act == "gelu" else 1e-30  # 1 + erf cancels in torch's gelu too, and its tail is nothing beside 1
    assert ((y.cpu().double() - want).abs() / want.abs().clamp_min(floor)).max() < 5e-7
    assert ((g.cpu().double() - want_g).abs() / want_g.abs().clamp_min(1.0)).max() < 5e-7


def raw_calls(dtype=torch.float64):
    calls = []
    for act, layout, shape in (
        ("silu", channels_inside, (2, 3, 2, 2)),
        ("tanh", contiguous, (2, 3, 4)),
        ("relu", contiguous, (4, 3)),
    ):
        generator = torch.Generator().manual_seed(0)

        def random(*shape, dtype=dtype, generator=generator):
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        x, grad, h = (layout(random(*shape)) for _ in range(3))
        bias, h_bias = (random(shape[1], dtype=accumulator(dtype)) for _ in range(2))
        setting = (1, ACTIVATIONS[act].code, 0.2, 1.3, math.inf)
        from_output = ACTIVATIONS[act].saves == "y"
        leaves = [t.clone().requires_grad_() for t in (grad, x, bias)]
        calls.append((OPS.bias_act, (*leaves[1:], *setting)))
        calls.append((OPS.bias_act_backward, (*leaves, *setting, from_output, [True, True])))
        calls.append((OPS.bias_act_backward, (*leaves[:2], None, *setting, from_output, [True, False])))
        second = (h, h_bias, grad, x, bias, *setting, from_output)
        calls.append((OPS.bias_act_double_backward, (*second, [True] * 3)))
        calls.append((OPS.bias_act_double_backward, (*second, [True, False, False])))
    return calls


def _call(*args, **kwargs):
    return lambda: bias_act(*args, **kwargs)


def _from_output(act, gain=1.0, clamp=math.inf):
    """A derivative of what does not follow from y."""
    return lambda: OPS.bias_act_backward(X, X, None, 1, ACTIVATIONS[act].code, 0.2, gain, clamp, True, [True, False])


X, BIAS = torch.linspace(-1, 1, 24).view(2, 3, 4), torch.ones(3)

OP = Op(
    name="bias_act",
    tiny=[
        *(case(act, (2, 3, 2), act=act, gain=1.3) for act in ACTIVATIONS),
        *(case(f"{act}, clamped", (2, 3, 2), act=act, gain=1.3, clamp=0.8) for act in ("leaky_relu", "silu", "tanh")),
        case("silu, no bias", (2, 3, 2), bias=False, act="silu"),
    ],
    cases=[
        *with_settings(),
        case("no bias", bias=False, act="silu"),
        case("matrix", (70, 33), act="tanh"),
        case("vector", (70,), dim=0, act="elu", alpha=0.7),
        case("first dimension", (6, 33), dim=0, act="softplus"),
        case("last dimension", (3, 5, 33), dim=2, act="gelu"),
        case("many samples", (40, 3, 8, 8), act="silu"),
        case("long planes", (2, 3, 1500), act="gelu"),
        case("every other element", (4, 6, 5), act="silu", gain=0.5, layout=every_other),
        case("one element", (1, 1), act="silu"),
        case("no samples", (0, 3, 4), act="silu"),
        case("no channels", (2, 0, 4), act="tanh"),
        case("no dimension", (), dim=0, bias=False, act="leaky_relu"),
    ],
    large=[
        case("large planes", (2, 3, 70, 71), act="silu"),
        case("large planes, flat", (9, 12, 40, 33), act="leaky_relu"),
        case("many rows, channels inside", (4, 20, 33, 34), act="silu", layout=channels_inside),
        case("large planes, channels inside", (2, 3, 90, 60), act="tanh", layout=channels_inside),
    ],
    huge=[
        case(f"{act}{label}, {layout.__name__}, 8x65x17x12", (8, 65, 17, 12), act=act, layout=layout, **SETTINGS[label])
        for act in ACTIVATIONS
        for label in (", gain 1.7", ", gain -0.6, clamped")
        for layout in (contiguous, channels_inside)
    ],
    drawn=st.lists(st.integers(1, 9), min_size=1, max_size=5).flatmap(
        lambda shape: st.builds(
            lambda dim, layout, act, seed: case("drawn", tuple(shape), dim, True, layout, seed, act=act, gain=1.2),
            st.integers(0, len(shape) - 1),
            st.sampled_from([contiguous, channels_inside, every_other, reversed_strides]),
            st.sampled_from(sorted(ACTIVATIONS)),
            st.integers(0, 99),
        )
    ),
    raw_calls=raw_calls,
    bad_calls={
        "unknown activation": (_call(X, act="mish"), ValueError, "act must be one of linear, relu"),
        "x of integers": (_call(X.long()), TypeError, "x must be float64"),
        "x is a number": (_call(1.0), TypeError, "x must be a tensor"),
        "dim beyond x": (_call(X, BIAS, dim=3), ValueError, "dim must be a dimension of x"),
        "long bias": (_call(X, torch.ones(4)), ValueError, r"bias must have shape \(3,\)"),
        "bias of another dtype": (_call(X, BIAS.double()), TypeError, "bias must be torch.float32"),
        "bias on another device": (_call(X, BIAS.to("meta")), TypeError, "bias must be torch.float32"),
        "bias is a number": (_call(X, 1.0), TypeError, "bias must be a tensor or None"),
        "clamp 0": (_call(X, clamp=0.0), ValueError, "clamp must be positive"),
        "gain NaN": (_call(X, gain=math.nan), ValueError, "gain must be finite"),
        "alpha infinite": (_call(X, alpha=math.inf), ValueError, "alpha must be finite"),
    },
    bad_raw_calls={
        "dim beyond x": lambda: OPS.bias_act(X, BIAS, 3, 0, 0.2, 1.0, math.inf),
        "negative dim": lambda: OPS.bias_act(X, BIAS, -1, 0, 0.2, 1.0, math.inf),
        "unknown activation": lambda: OPS.bias_act(X, BIAS, 1, 99, 0.2, 1.0, math.inf),
        "negative activation": lambda: OPS.bias_act(X, BIAS, 1, -1, 0.2, 1.0, math.inf),
        "short bias": lambda: OPS.bias_act(X, BIAS[:2], 1, 0, 0.2, 1.0, math.inf),
        **{
            f"{what}, from the output": _from_output(*setting)
            for what, setting in {
                **{act: (act,) for act, row in ACTIVATIONS.items() if row.saves == "x"},
                "gain 0": ("tanh", 0.0),
                "a clamp": ("tanh", 1.0, 0.5),
            }.items()
        },
        "integers": lambda: OPS.bias_act(X.long(), None, 1, 0, 0.2, 1.0, math.inf),
    },
    laid_out_like="x",
    own={
        f"{act} is accurate in float32 on the whole line": partial(check_float32_on_the_whole_line, act)
        for act in ACTIVATIONS
    },
    wide=("bias",),
    triton=(torch.float64, torch.float32, torch.bfloat16, torch.float16),
)
