import math
import os
import subprocess
import sys
from functools import partial
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan import ops
from fastgan.ops.bias_act import ACTIVATIONS

OP = torch.ops.fastgan
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


def tensors(dtype=torch.float64, shape=(3, 5, 4, 3), dim=1, channels_last=False):
    torch.manual_seed(0)
    x, grad, h = (torch.randn(shape, dtype=dtype) * 2 for _ in range(3))
    if channels_last:
        x, grad, h = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad, h))
    bias, h_bias = (torch.randn(shape[dim], dtype=dtype) for _ in range(2))
    return x.requires_grad_(), bias.requires_grad_(), grad.requires_grad_(), h, h_bias


def every_derivative(function, x, bias, grad, h, h_bias, **setting):
    """y, its two gradients, and the derivative of these with respect to (x, bias, grad)."""
    y = function(x, bias, **setting)
    first = torch.autograd.grad(y, (x, bias), grad, create_graph=True)
    second = torch.autograd.grad(first, (x, bias, grad), (h, h_bias), allow_unused=True)
    return y, *first, *(torch.zeros_like(t) if s is None else s for s, t in zip(second, (x, bias, grad), strict=True))


SETTINGS = [{}, {"gain": 1.7}, {"gain": -0.6, "clamp": 0.9}, {"gain": 0.0}, {"alpha": -0.3}, {"alpha": 0.0}]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_both_derivatives_equal_plain_torch(act, channels_last):
    for setting in SETTINGS:
        if act == "elu" and setting.get("alpha") == 0.0:
            continue  # F.elu itself refuses a second derivative there
        args = tensors(channels_last=channels_last)
        got, want = (every_derivative(f, *args, act=act, **setting) for f in (ops.bias_act, plain))
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-12, msg=lambda m, s=setting: f"{s}: {m}")


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gradcheck_and_gradgradcheck(act):
    x, bias, *_ = tensors(shape=(2, 3, 2))
    for setting in [{"gain": 1.3}, {"gain": 1.3, "clamp": 0.8}]:

        def function(x, bias=None, setting=setting):
            return ops.bias_act(x, bias, act=act, **setting)

        assert torch.autograd.gradcheck(function, (x, bias))
        assert torch.autograd.gradgradcheck(function, (x, bias))
        assert torch.autograd.gradgradcheck(function, (x,))
        assert torch.autograd.gradgradcheck(function, (x.detach(), bias))


@pytest.mark.parametrize("act", ["leaky_relu", "silu", "tanh"])
def test_any_combination_of_what_requires_grad(act):
    for channels_last, *requires in product([False, True], repeat=4):
        x, bias, grad, h, h_bias = tensors(channels_last=channels_last)
        for t, r in zip((x, bias, grad), requires, strict=True):
            t.requires_grad_(r)
        wanted = [(t, c) for t, c in ((x, h), (bias, h_bias)) if t.requires_grad]
        if not wanted:
            continue
        results = []
        for function in (ops.bias_act, plain):
            y = function(x, bias, act=act)
            first = torch.autograd.grad(y, [t for t, _ in wanted], grad, create_graph=True)
            leaves = [t for t in (x, bias, grad) if t.requires_grad]
            second = (None,) * len(leaves)
            if any(f.requires_grad for f in first):
                second = torch.autograd.grad(first, leaves, [c for _, c in wanted], allow_unused=True)
            results.append([*first, *second])
        for got, want in zip(*results, strict=True):
            zero = torch.zeros((), dtype=torch.float64)
            torch.testing.assert_close(*torch.broadcast_tensors(*(zero if t is None else t for t in (got, want))))


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_penalty_around_the_activation_equals_plain_torch(act):
    x, bias, *_ = tensors()
    linear = torch.linspace(0, 9, x[0].numel(), dtype=x.dtype).cos()
    results = []
    for function in (ops.bias_act, plain):
        score = function(x, bias, act=act).square().flatten(1).sum(1) + x.flatten(1).tanh() @ linear
        (g,) = torch.autograd.grad(score.sum(), x, create_graph=True)
        penalty = (g.flatten(1).norm(dim=1) - 1).square().mean()
        results.append((penalty, *torch.autograd.grad(penalty, (x, bias))))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_ops_pass_opcheck():
    for act, channels_last, shape in [
        ("silu", True, (2, 3, 2, 2)),
        ("tanh", False, (2, 3, 4)),
        ("relu", False, (4, 3)),
    ]:
        x, bias, grad, h, h_bias = tensors(shape=shape, channels_last=channels_last)
        setting = (1, ACTIVATIONS[act].code, 0.2, 1.3, math.inf)
        torch.library.opcheck(OP.bias_act.default, (x, bias, *setting))
        from_output = ACTIVATIONS[act].saves == "y"
        torch.library.opcheck(OP.bias_act_backward.default, (grad, x, bias, *setting, from_output, [True, True]))
        torch.library.opcheck(OP.bias_act_backward.default, (grad, x, None, *setting, from_output, [True, False]))
        second = (h, h_bias, grad.detach(), x.detach(), bias.detach(), *setting, from_output)
        torch.library.opcheck(OP.bias_act_double_backward.default, (*second, [True] * 3))
        torch.library.opcheck(OP.bias_act_double_backward.default, (*second, [True, False, False]))


@pytest.mark.parametrize("act", ["silu", "tanh"])
def test_third_order_raises(act):
    x, bias, *_ = tensors()
    (g,) = torch.autograd.grad(ops.bias_act(x, bias, act=act).square().sum(), x, create_graph=True)
    (gg,) = torch.autograd.grad(g.square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no further derivative"):
        torch.autograd.grad(gg.square().sum(), x)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_table_is_true(act):
    """What is saved is what the table says, and a second derivative is there exactly where it says so."""
    x, bias, *_ = tensors()
    y = ops.bias_act(x, bias, act=act)
    saved = y.grad_fn.saved_tensors[0]
    expected = {"x": x, "y": y, "nothing": None}[ACTIVATIONS[act].saves]
    assert saved is expected or saved.data_ptr() == expected.data_ptr()
    curvature = torch.func.grad(torch.func.grad(lambda z: PLAIN[act](z, 0.2)))(torch.tensor(0.7))
    negative = torch.func.grad(torch.func.grad(lambda z: PLAIN[act](z, 0.2)))(torch.tensor(-0.7))
    assert ACTIVATIONS[act].curved == bool(curvature != 0 or negative != 0)


def test_forward_mode_and_func_transforms_are_right():
    x, bias, *_ = (t.detach() for t in tensors())
    tangent = torch.randn_like(x)
    for act in ACTIVATIONS:
        ours = torch.func.jvp(partial(ops.bias_act, bias=bias, act=act), (x,), (tangent,))
        torch.testing.assert_close(ours, torch.func.jvp(partial(plain, bias=bias, act=act), (x,), (tangent,)))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        with pytest.raises(NotImplementedError, match="forward-mode"):
            OP.bias_act(dual, bias, 1, 0, 0.2, 1.0, math.inf)


@pytest.mark.parametrize("act", ["leaky_relu", "silu", "tanh"])
def test_a_whole_penalty_compiles_to_one_graph(act):
    x, bias, *_ = tensors(torch.float32)

    def step(x, bias):
        (g,) = torch.autograd.grad(ops.bias_act(x, bias, act=act).square().sum(), x, create_graph=True)
        penalty = (g.flatten(1).norm(dim=1) - 1).square().mean()
        return penalty.detach(), *(t.detach() for t in torch.autograd.grad(penalty, (x, bias)))

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(x, bias)
    for got, want in zip(compiled, step(x, bias), strict=True):
        torch.testing.assert_close(got, want)


# --- numbers


def relative_error(got, want):
    return ((got.double() - want).norm() / want.norm().clamp_min(1e-30)).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_error_is_at_most_plain_torch_s_error(act, dtype):
    args = tensors(dtype, shape=(4, 6, 9, 5))
    exact = [t.detach().double().requires_grad_(t.requires_grad) for t in args]
    want = every_derivative(plain, *exact, act=act, gain=1.5)
    theirs = every_derivative(plain, *args, act=act, gain=1.5)
    mine = every_derivative(ops.bias_act, *args, act=act, gain=1.5)
    # In float32 our tanh or erf may be an ulp or two from torch's; in half precision only the last rounding may differ.
    rounding = torch.finfo(dtype).eps * (2 if dtype == torch.float32 else 0.5)
    for i, (m, t, w) in enumerate(zip(mine, theirs, want, strict=True)):
        assert m.dtype == t.dtype and m.shape == t.shape
        assert relative_error(m, w) <= (2 if i == 0 else 3) * relative_error(t, w) + rounding, i


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_float32_is_accurate_on_the_whole_line(act):
    x = torch.cat(
        [torch.linspace(-30, 30, 20001), torch.linspace(-1e-3, 1e-3, 1001), torch.tensor([-1e4, -100.0, 100.0])]
    )
    x.requires_grad_()
    exact = x.detach().double().requires_grad_()
    y, want = ops.bias_act(x, act=act), plain(exact, act=act)
    (g,), (want_g,) = (torch.autograd.grad(out.sum(), at, create_graph=True) for out, at in ((y, x), (want, exact)))
    floor = 1.0 if act == "gelu" else 1e-30  # 1 + erf cancels in torch's gelu too, and its tail is nothing beside 1
    assert ((y.double() - want).abs() / want.abs().clamp_min(floor)).max() < 5e-7
    assert ((g.double() - want_g).abs() / want_g.abs().clamp_min(1.0)).max() < 5e-7


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_special_values_are_those_of_the_mathematics(act):
    """As torch has them in fp64; its vectorised fp32 gelu makes a NaN of +inf on some processors."""
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0] * 3)
    if act in ("silu", "gelu"):  # -inf * 0: NaN in torch; ours may be NaN as well, nothing else
        x = x[~x.isneginf()]
    torch.testing.assert_close(ops.bias_act(x, act=act), plain(x.double(), act=act).float(), equal_nan=True)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(data=st.data())
def test_any_shape_layout_and_dim(data):
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(data.draw(st.integers(1, 5))))
    dim = data.draw(st.integers(0, len(shape) - 1))
    layout = data.draw(st.sampled_from(["contiguous", "channels inside", "sliced", "reversed"]))
    act = data.draw(st.sampled_from(list(ACTIVATIONS)))
    torch.manual_seed(data.draw(st.integers(0, 99)))

    def tensor():
        if layout == "channels inside" and len(shape) > 2:
            return torch.randn(shape[0], *shape[2:], shape[1], dtype=torch.float64).movedim(-1, 1)
        if layout == "sliced":
            return torch.randn(*shape[:-1], 2 * shape[-1], dtype=torch.float64)[..., ::2]
        if layout == "reversed":
            return torch.randn(shape[::-1], dtype=torch.float64).permute(*range(len(shape))[::-1])
        return torch.randn(shape, dtype=torch.float64)

    x, h, grad = tensor().requires_grad_(), tensor(), torch.randn(shape, dtype=torch.float64).requires_grad_()
    bias, h_bias = (torch.randn(shape[dim], dtype=torch.float64) for _ in range(2))
    args = (x, bias.requires_grad_(), grad, h, h_bias)
    got, want = (every_derivative(f, *args, act=act, dim=dim, gain=1.2) for f in (ops.bias_act, plain))
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-10)


def test_large_planes_and_many_rows():
    for shape, channels_last in [((2, 3, 70, 71), False), ((4, 20, 33, 34), True), ((2, 3, 90, 60), True)]:
        args = tensors(shape=shape, channels_last=channels_last)
        got, want = (every_derivative(f, *args, act="silu") for f in (ops.bias_act, plain))
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-10)
        assert got[0].is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_results_do_not_depend_on_the_number_of_threads():
    threads = torch.get_num_threads()
    try:
        for act, channels_last in product(["silu", "leaky_relu"], [False, True]):
            results = []
            for count in (1, 2, 7):
                torch.set_num_threads(count)
                args = tensors(torch.float32, (9, 12, 40, 33), channels_last=channels_last)
                results.append(every_derivative(ops.bias_act, *args, act=act))
            for other in results[1:]:
                assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_every_output_is_written():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        assert torch.empty(3).isnan().all()
        for act, channels_last in product(ACTIVATIONS, [False, True]):
            args = tensors(channels_last=channels_last)
            assert all(t.isfinite().all() for t in every_derivative(ops.bias_act, *args, act=act))
    finally:
        torch.use_deterministic_algorithms(before)


def test_half_precision_activation_with_float32_bias():
    x, bias = torch.randn(2, 3, 4, dtype=torch.bfloat16, requires_grad=True), torch.randn(3, requires_grad=True)
    y = ops.bias_act(x, bias, act="silu")
    g_x, g_bias = torch.autograd.grad(y.float().sum(), (x, bias))
    assert (y.dtype, g_x.dtype, g_bias.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ops.bias_act(torch.nn.Conv1d(3, 3, 1, bias=False)(x.float()), bias).dtype == torch.bfloat16


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa):
    code = (
        "import sys; sys.path.insert(0, 'tests/ops'); import test_bias_act as t, torch\n"
        "for act in t.ACTIVATIONS:\n"
        "    t.test_float32_is_accurate_on_the_whole_line(act)\n"
        "    args = t.tensors(shape=(2, 5, 7, 3))\n"
        "    for got, want in zip(*(t.every_derivative(f, *args, act=act) for f in (t.ops.bias_act, t.plain))):\n"
        "        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "FASTGAN_ISA": isa})


# --- bad input


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda x: ops.bias_act(x, act="mish"), ValueError, "act must be one of linear, relu"),
        (lambda x: ops.bias_act(x.long()), TypeError, "x must be float64"),
        (lambda x: ops.bias_act(x, torch.ones(3), dim=3), ValueError, "dim must be a dimension of x"),
        (lambda x: ops.bias_act(x, torch.ones(4)), ValueError, r"bias must have shape \(3,\)"),
        (lambda x: ops.bias_act(x, torch.ones(3).double()), TypeError, "bias must be torch.float32"),
        (lambda x: ops.bias_act(x, 1.0), TypeError, "bias must be a tensor or None"),
        (lambda x: ops.bias_act(x, clamp=0.0), ValueError, "clamp must be positive"),
        (lambda x: ops.bias_act(x, gain=math.nan), ValueError, "gain must be finite"),
    ],
)
def test_bad_input_names_the_argument(call, error, says):
    with pytest.raises(error, match=says):
        call(torch.randn(2, 3, 4))


def test_direct_calls_with_bad_input_raise():
    x, bias = torch.randn(2, 3, 4), torch.ones(3)
    setting = (0.2, 1.0, math.inf)
    for bad in [
        lambda: OP.bias_act(x, bias, 3, 0, *setting),
        lambda: OP.bias_act(x, bias, -1, 0, *setting),
        lambda: OP.bias_act(x, bias, 1, 99, *setting),
        lambda: OP.bias_act(x, bias[:2], 1, 0, *setting),
        lambda: OP.bias_act_backward(x[:1], x, bias, 1, 0, *setting, False, [True] * 2),
        lambda: OP.bias_act_double_backward(x[:1], None, x, x, bias, 1, 0, *setting, False, [True] * 3),
        lambda: OP.bias_act_double_backward(x, x, x, x, bias, 1, 0, *setting, False, [True] * 3),
    ]:
        with pytest.raises(RuntimeError):
            bad()


def test_empty_and_scalar_input():
    x, bias = torch.randn(0, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    ops.bias_act(x, bias).sum().backward()
    assert torch.equal(bias.grad, torch.zeros(3))
    assert ops.bias_act(torch.tensor(-1.0), dim=0).item() == pytest.approx(-0.2)


# --- beside torch's own activations


@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_an_in_place_operation_on_y_is_right_or_raises_as_after_torch_s_own_function(act, clamp):
    def theirs(x, bias):
        y = ACTIVATIONS[act].reference(x + bias[:, None, None], 0.2)
        return y if clamp is None else y.clamp(-clamp, clamp)

    results = []
    for function in (theirs, lambda x, bias: ops.bias_act(x, bias, act=act, clamp=clamp)):
        x, bias, *_ = tensors()
        y = function(x, bias)
        try:
            results.append(torch.autograd.grad(y.add_(1.0).square().sum(), (x, bias)))
        except RuntimeError:
            results.append(None)
    theirs, ours = results
    assert (ours is None) == (theirs is None)
    if ours is not None:
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("act", ["relu", "leaky_relu"])
def test_the_second_derivative_of_a_piecewise_linear_function_gives_the_bias_zeros(act):
    """An optimiser tells zeros from None, and torch's functions give zeros."""
    x, bias, grad, *_ = tensors()
    (g,) = torch.autograd.grad(ops.bias_act(x, bias, act=act), x, grad, create_graph=True)
    of_x, of_bias = torch.autograd.grad(g.sum(), (x, bias), allow_unused=True)
    assert of_x is None and torch.equal(of_bias, torch.zeros_like(bias))


def test_an_error_names_every_allowed_dtype_once():
    with pytest.raises(TypeError) as error:
        ops.bias_act(torch.randn(2, 3, dtype=torch.float64), torch.ones(3))
    assert str(error.value).count("float64") == 1
