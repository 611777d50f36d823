import os
import subprocess
import sys
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan import ops
from fastgan.ops.normalize import BATCH, _normalize, normalize_reference

OP = torch.ops.fastgan


def instance(x, weight=None, bias=None):
    return ops.instance_norm(x, weight=weight, bias=bias)


def batch(x, weight=None, bias=None):
    return ops.batch_norm(x, None, None, weight, bias, training=True)


# name -> (ours, torch's), functions of (x, weight, bias) on 12 channels
KINDS = {
    "group": (lambda x, w=None, b=None: ops.group_norm(x, 3, w, b), lambda x, w, b: F.group_norm(x, 3, w, b)),
    "one group": (lambda x, w=None, b=None: ops.group_norm(x, 1, w, b), lambda x, w, b: F.group_norm(x, 1, w, b)),
    "instance": (instance, lambda x, w, b: F.instance_norm(x, None, None, w, b)),
    "batch": (batch, lambda x, w, b: F.batch_norm(x, None, None, w, b, True)),
    "layer": (lambda x, w=None, b=None: ops.layer_norm(x, 5, w, b), lambda x, w, b: F.layer_norm(x, (5,), w, b)),
}


def inputs(kind, dtype=torch.float64, channels_last=False, shape=(3, 12, 4, 5), mean=0.5):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=dtype) + mean
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    size = shape[-1] if kind == "layer" else shape[1]
    weight, bias = (torch.randn(size, dtype=dtype, requires_grad=True) for _ in range(2))
    return x.requires_grad_(), weight, bias


def penalty_gradients(norm, x, weight, bias, *more):
    """A critic in which x reaches the output around the norm as well: its gradient penalty and all gradients of it."""
    linear = torch.linspace(0, 9, x[0].numel(), dtype=x.dtype).cos()
    score = F.silu(norm(x, weight, bias)).flatten(1).sum(1) + x.flatten(1).tanh() @ linear
    (g,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    penalty = (g.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty, *torch.autograd.grad(penalty, (x, weight, bias, *more))


def every_derivative(norm, x, weight, bias, grad, cotangents):
    """y, its three gradients, and the derivative of these with respect to (x, weight, grad)."""
    y = norm(x, weight, bias)
    first = torch.autograd.grad(y, (x, weight, bias), grad, create_graph=True)
    return y, *first, *torch.autograd.grad(first, (x, weight, grad), cotangents)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_penalty_around_the_norm_equals_plain_torch(kind, channels_last):
    args = inputs(kind, channels_last=channels_last)
    ours, plain = KINDS[kind]
    for got, want in zip(penalty_gradients(ours, *args), penalty_gradients(plain, *args), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck_and_gradgradcheck(kind):
    ours, _ = KINDS[kind]
    x, weight, bias = inputs(kind, shape=(2, 6, 2, 3) if kind != "layer" else (2, 2, 2, 5))
    assert torch.autograd.gradcheck(ours, (x, weight, bias))
    for requires in [(True, True, True), (True, False, False), (False, True, False), (True, False, True)]:
        args = [t.detach().requires_grad_(r) for t, r in zip((x, weight, bias), requires, strict=True)]
        assert torch.autograd.gradgradcheck(ours, args)
    assert torch.autograd.gradgradcheck(ours, (x,))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("num_groups", [3, BATCH])
@pytest.mark.parametrize("shape", [(3, 12, 4, 5), (3, 12)])
@pytest.mark.parametrize("per_sample", [False, True])
def test_any_combination_of_what_requires_grad(shape, num_groups, channels_last, per_sample):
    torch.manual_seed(0)
    if channels_last and len(shape) == 4:
        x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    else:
        x = torch.randn(shape, dtype=torch.float64)
    weight, bias = (torch.randn(shape[:2] if per_sample else shape[1], dtype=torch.float64) for _ in range(2))
    grad = torch.randn(shape, dtype=torch.float64)
    for of_x, of_weight, of_bias, of_grad in product([False, True], repeat=4):
        wanted = [t for t, r in zip((x, weight, bias), (of_x, of_weight, of_bias), strict=True) if r]
        if not wanted:
            continue
        for t, requires in zip((x, weight, bias, grad), (of_x, of_weight, of_bias, of_grad), strict=True):
            t.requires_grad_(requires)
        results = []
        for norm in (_normalize, normalize_reference):
            y = norm(x, num_groups, weight, bias, 1e-5)[0]
            first = torch.autograd.grad(y, wanted, grad, create_graph=True)
            further = [*wanted, grad] if of_grad else wanted
            loss = sum((f * torch.linspace(1, 2, f.numel(), dtype=f.dtype).view_as(f)).sum() for f in first)
            second = (
                torch.autograd.grad(loss, further, allow_unused=True) if loss.requires_grad else (None,) * len(further)
            )
            results.append([*first, *second])
        for got, want, like in zip(*results, [*wanted, *further], strict=True):
            got, want = (torch.zeros_like(like) if t is None else t for t in (got, want))
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


def test_ops_pass_opcheck():
    for shape, num_groups, channels_last in [((2, 6, 3, 2), 3, False), ((2, 6, 3, 2), BATCH, True), ((4, 6), 2, False)]:
        x, weight, bias = inputs("group", shape=shape, channels_last=channels_last)
        y, mean, var = OP.normalize(x, weight, bias, num_groups, 1e-5)
        grad, h = (torch.randn_like(y, requires_grad=True) for _ in range(2))
        torch.library.opcheck(OP.normalize.default, (x, weight, bias, num_groups, 1e-5))
        rest = (weight, mean, var, num_groups, 1e-5)
        torch.library.opcheck(OP.normalize_backward.default, (grad, x, *rest, [True] * 3))
        torch.library.opcheck(
            OP.normalize_backward.default, (grad, x, None, mean, var, num_groups, 1e-5, [True, False, False])
        )
        second = (
            h.detach(),
            None,
            bias.detach(),
            grad.detach(),
            x.detach(),
            weight.detach(),
            mean,
            var,
            num_groups,
            1e-5,
        )
        torch.library.opcheck(OP.normalize_double_backward.default, (*second, [True] * 3))
        torch.library.opcheck(OP.normalize_double_backward.default, (*second, [True, False, False]))


def test_third_order_raises():
    x, weight, bias = inputs("group")
    (g,) = torch.autograd.grad(ops.group_norm(x, 3, weight, bias).square().sum(), x, create_graph=True)
    (gg,) = torch.autograd.grad(g.square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no further derivative"):
        torch.autograd.grad(gg.square().sum(), x)


def test_statistics_are_no_free_variables_of_the_backward_op():
    x, weight, _ = inputs("group")
    _, mean, var = OP.normalize(x, weight, None, 3, 1e-5)
    assert not mean.requires_grad and not var.requires_grad
    with pytest.raises(NotImplementedError, match="detach"):
        OP.normalize_backward(x, x, weight, mean.requires_grad_(), var, 3, 1e-5, [True] * 3)


def test_forward_mode_and_func_transforms_are_right():
    x, weight, bias = (t.detach() for t in inputs("group"))
    tangent = torch.randn_like(x)

    def plain(x):
        return F.group_norm(x, 3, weight, bias).sin()

    def ours(x):
        return ops.group_norm(x, 3, weight, bias).sin()

    torch.testing.assert_close(torch.func.jvp(ours, (x,), (tangent,)), torch.func.jvp(plain, (x,), (tangent,)))
    gradient = torch.func.grad(lambda x: ours(x).sum())
    torch.testing.assert_close(gradient(x), torch.func.grad(lambda x: plain(x).sum())(x))
    torch.testing.assert_close(
        torch.func.vmap(torch.func.grad(lambda x: ours(x[None]).sum()))(x), gradient(x)
    )  # group norm does not couple samples
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        with pytest.raises(NotImplementedError, match="forward-mode"):
            OP.normalize(dual, weight, bias, 3, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_penalty_compiles_to_one_graph(kind):
    ours, _ = KINDS[kind]
    args = inputs(kind, dtype=torch.float32)

    def step(*args):
        penalty, *gradients = penalty_gradients(ours, *args)
        return penalty.detach(), *(g.detach() for g in gradients)

    with torch._dynamo.config.patch(trace_autograd_ops=True):
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(*args)
    for got, want in zip(compiled, step(*args), strict=True):
        torch.testing.assert_close(got, want)


# --- numbers in every dtype, shape and layout


def relative_error(got, want):
    return ((got.double() - want).norm() / want.norm().clamp_min(1e-30)).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_error_is_at_most_plain_torch_s_error(kind, dtype):
    ours, plain = KINDS[kind]
    x, weight, bias = inputs(kind, dtype=dtype, shape=(4, 12, 9, 5))
    grad, h = torch.randn_like(x).requires_grad_(), torch.randn_like(x)
    exact = [t.detach().double().requires_grad_() for t in (x, weight, bias, grad)]
    cotangents = [h, torch.randn_like(weight), torch.randn_like(bias)]
    want = every_derivative(plain, *exact, [c.double() for c in cotangents])
    theirs = every_derivative(plain, x, weight, bias, grad, cotangents)
    mine = every_derivative(ours, x, weight, bias, grad, cotangents)
    rounding = torch.finfo(dtype).eps
    for i, (m, t, w) in enumerate(zip(mine, theirs, want, strict=True)):
        assert m.dtype == t.dtype and m.shape == t.shape
        assert relative_error(m, w) <= (2 if i == 0 else 3) * relative_error(t, w) + rounding / 2, i


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_weights_beside_half_activations(dtype):
    x, weight, bias = inputs("group", dtype=dtype)
    wide = [t.detach().float().requires_grad_() for t in (weight, bias)]
    y = ops.group_norm(x, 3, *wide)
    gradients = torch.autograd.grad(y.float().square().sum(), (x, *wide))
    assert y.dtype == dtype and [g.dtype for g in gradients] == [dtype, torch.float32, torch.float32]
    torch.testing.assert_close(y, ops.group_norm(x, 3, weight, bias))


def test_under_autocast_the_activation_keeps_its_dtype():
    layer = torch.nn.Conv2d(3, 12, 3)
    weight = torch.ones(12, requires_grad=True)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ops.group_norm(layer(x), 3, weight)
    assert y.dtype == torch.bfloat16
    (g,) = torch.autograd.grad(y.float().square().sum(), x, create_graph=True)
    g.square().sum().backward()
    assert g.dtype == torch.float32 and weight.grad.dtype == torch.float32 and layer.weight.grad.isfinite().all()


@settings(deadline=None, max_examples=40, derandomize=True)
@given(data=st.data())
def test_any_shape_layout_and_group_count(data):
    dims = data.draw(st.integers(0, 3))
    groups, per_group = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 19))
    shape = (data.draw(st.integers(1, 5)), groups * per_group, *(data.draw(st.integers(1, 9)) for _ in range(dims)))
    dtype = data.draw(st.sampled_from([torch.float64, torch.float32]))
    layout = data.draw(st.sampled_from(["contiguous", "channels inside", "sliced", "transposed"]))
    num_groups = data.draw(st.sampled_from([groups, BATCH]))
    torch.manual_seed(data.draw(st.integers(0, 99)))

    def tensor():
        if layout == "channels inside":
            return torch.randn(shape[0], *shape[2:], shape[1], dtype=dtype).movedim(-1, 1)
        if layout == "sliced":
            return torch.randn(*shape[:-1], 2 * shape[-1], dtype=dtype)[..., ::2]
        if layout == "transposed":
            return (
                torch.randn(shape[::-1], dtype=dtype).permute(*range(len(shape)))[...].permute(*range(len(shape))[::-1])
            )
        return torch.randn(shape, dtype=dtype)

    x, h = tensor().requires_grad_(), tensor()
    grad = torch.randn(shape, dtype=dtype).requires_grad_()
    per_sample = data.draw(st.booleans())
    weight, bias = (
        torch.randn(shape[:2] if per_sample else shape[1], dtype=dtype, requires_grad=True) for _ in range(2)
    )
    cotangents = [h, torch.randn_like(weight), torch.randn_like(bias)]
    # eps of the order of the variance: a row of one or two elements is otherwise all rounding
    got = every_derivative(lambda *a: _normalize(a[0], num_groups, *a[1:], 0.3)[0], x, weight, bias, grad, cotangents)
    want = every_derivative(
        lambda *a: normalize_reference(a[0], num_groups, *a[1:], 0.3)[0],
        *(t.detach().double().requires_grad_() for t in (x, weight, bias, grad)),
        [c.double() for c in cotangents],
    )
    tolerance = 1e-11 if dtype == torch.float64 else 1e-4
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g.double(), w, rtol=tolerance, atol=tolerance)


def test_the_result_is_laid_out_like_the_input():
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 6, 4, 4).contiguous(memory_format=layout)
        x.requires_grad_()
        y = ops.group_norm(x, 2)
        (g,) = torch.autograd.grad(y.square().sum(), x)
        assert y.is_contiguous(memory_format=layout) and g.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("num_groups", [1, 12, BATCH])
def test_a_mean_far_from_zero_does_not_cancel(num_groups, channels_last):
    torch.manual_seed(0)
    x = torch.randn(4, 12, 32, 33) + 1e4
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    y, mean, var = _normalize(x, num_groups, None, None, 1e-5)
    want, want_mean, want_var = normalize_reference(x.double(), num_groups, None, None, 1e-5)
    torch.testing.assert_close(y.double(), want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mean.double(), want_mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(var.double(), want_var, rtol=1e-6, atol=0)


def test_large_rows_and_many_slabs():
    for shape, num_groups, channels_last in [
        ((1, 4, 130, 131), 2, False),
        ((1, 40, 64, 65), 4, True),
        ((2, 3, 90, 91), BATCH, True),
    ]:
        x, weight, bias = inputs("group", shape=shape, channels_last=channels_last)
        args = (x, weight, bias, torch.randn_like(x).requires_grad_())
        cotangents = [torch.randn_like(t) for t in (x, weight, bias)]
        for norm in (_normalize, normalize_reference):

            def first_output(x, w, b, norm=norm):
                return norm(x, num_groups, w, b, 1e-5)[0]  # noqa: B023

            if norm is _normalize:
                got = every_derivative(first_output, *args, cotangents)
            else:
                want = every_derivative(first_output, *args, cotangents)
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-10)


def test_results_do_not_depend_on_the_number_of_threads():
    threads = torch.get_num_threads()
    try:
        for kind, channels_last in product(KINDS, [False, True]):
            results = []
            for count in (1, 2, 7):
                torch.set_num_threads(count)
                x, w, b = inputs(kind, dtype=torch.float32, channels_last=channels_last, shape=(9, 12, 40, 33))
                ours = KINDS[kind][0] if kind != "layer" else lambda x, w, b: ops.layer_norm(x, 33, w, b)
                grad = torch.ones_like(x).requires_grad_()
                results.append(every_derivative(ours, x, w, b, grad, [x.detach().sin(), w.detach(), b.detach()]))
            for other in results[1:]:
                assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    finally:
        torch.set_num_threads(threads)


def test_every_output_is_written(nan_filled_memory):
    for kind, channels_last in product(KINDS, [False, True]):
        x, w, b = inputs(kind, channels_last=channels_last)
        cotangents = [torch.randn_like(t) for t in (x, w, b)]
        for result in every_derivative(KINDS[kind][0], x, w, b, torch.randn_like(x).requires_grad_(), cotangents):
            assert result.isfinite().all(), kind


@pytest.fixture
def nan_filled_memory():
    """Every torch.empty, also the compiled ops', comes filled with NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa):
    code = (
        "import sys; sys.path.insert(0, 'tests/ops'); import test_normalize as t, torch\n"
        "for kind in t.KINDS:\n"
        "    for last in (False, True):\n"
        "        args = t.inputs(kind, channels_last=last, shape=(3, 12, 7, 5))\n"
        "        for got, want in zip(*(t.penalty_gradients(f, *args) for f in t.KINDS[kind])):\n"
        "            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "FASTGAN_ISA": isa})


# --- running statistics


@pytest.mark.parametrize("momentum", [0.1, 1.0])
def test_running_statistics_are_torch_s(momentum):
    x = torch.randn(4, 6, 3, 5) * 2 + 1
    for ours, plain in [
        (lambda m, v: ops.batch_norm(x, m, v, training=True, momentum=momentum),
         lambda m, v: F.batch_norm(x, m, v, training=True, momentum=momentum)),
        (lambda m, v: ops.instance_norm(x, m, v, momentum=momentum),
         lambda m, v: F.instance_norm(x, m, v, momentum=momentum)),
    ]:  # fmt: skip
        mine, theirs = ((torch.zeros(6), torch.ones(6)) for _ in range(2))
        torch.testing.assert_close(ours(*mine), plain(*theirs))
        torch.testing.assert_close(mine, theirs)


def test_given_statistics_are_an_affine_map():
    x, weight, bias = inputs("batch")
    mean, var = torch.randn(12, dtype=torch.float64), torch.rand(12, dtype=torch.float64) + 0.5
    args = (x, weight, bias)
    ours = penalty_gradients(lambda x, w, b: ops.batch_norm(x, mean, var, w, b), *args)
    plain = penalty_gradients(lambda x, w, b: F.batch_norm(x, mean, var, w, b), *args)
    torch.testing.assert_close(ours, plain)
    per_sample = [t.detach().expand(3, 12) for t in (weight, bias)]
    torch.testing.assert_close(
        ops.batch_norm(x, mean, var, *per_sample), F.batch_norm(x, mean, var, weight, bias), rtol=1e-9, atol=1e-9
    )


# --- bad input


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda x: ops.group_norm(x, 5), ValueError, "num_groups must divide the 12 channels"),
        (lambda x: ops.group_norm(x, 0), ValueError, "num_groups"),
        (lambda x: ops.group_norm(x.long(), 3), TypeError, "x must be float64"),
        (lambda x: ops.group_norm(x[0, :, 0, 0], 3), ValueError, r"x must be \(N, C"),
        (lambda x: ops.group_norm(x, 3, eps=-1), ValueError, "eps must be at least 0"),
        (lambda x: ops.group_norm(x, 3, torch.ones(3)), ValueError, r"weight must have shape \(12,\)"),
        (lambda x: ops.group_norm(x, 3, torch.ones(12).double()), TypeError, "weight must be torch.float32"),
        (lambda x: ops.group_norm(x, 3, torch.ones(12), torch.ones(2, 12)), ValueError, "the same shape"),
        (lambda x: ops.group_norm(x, 3, 1.0), TypeError, "weight must be a tensor or None"),
        (lambda x: ops.layer_norm(x, 7), ValueError, "x must end in normalized_shape"),
        (lambda x: ops.layer_norm(x, 5, torch.ones(4)), ValueError, "weight must have normalized_shape"),
        (lambda x: ops.instance_norm(x[:, :, :1, :1]), ValueError, "more than one spatial element"),
        (lambda x: ops.batch_norm(x[:1, :, :1, :1], None, None, training=True), ValueError, "more than one value"),
        (lambda x: ops.batch_norm(x, None, None), ValueError, "running_mean and running_var must be given"),
        (
            lambda x: ops.batch_norm(x, torch.zeros(3), torch.ones(3), training=True),
            ValueError,
            "running_mean must have",
        ),
    ],
)
def test_bad_input_names_the_argument(call, error, says):
    with pytest.raises(error, match=says):
        call(torch.randn(2, 12, 4, 5))


def test_direct_calls_with_bad_input_raise():
    x, weight = torch.randn(2, 12, 4), torch.ones(12)
    mean = var = torch.zeros(2, 3)
    for bad in [
        lambda: OP.normalize(x, weight, None, 5, 1e-5),
        lambda: OP.normalize(x[0, 0], weight, None, 3, 1e-5),
        lambda: OP.normalize(x, None, weight, 3, 1e-5),
        lambda: OP.normalize(x, weight[:3], None, 3, 1e-5),
        lambda: OP.normalize(x.long(), None, None, 3, 1e-5),
        lambda: OP.normalize_backward(x[:1], x, weight, mean, var, 3, 1e-5, [True] * 3),
        lambda: OP.normalize_backward(x, x, weight, mean[:1], var, 3, 1e-5, [True] * 3),
        lambda: OP.normalize_backward(x, x, None, mean, var, 3, 1e-5, [True] * 3),
        lambda: OP.normalize_double_backward(x[:1], None, None, x, x, weight, mean, var, 3, 1e-5, [True] * 3),
        lambda: OP.normalize_double_backward(x, mean, None, x, x, weight, mean, var, 3, 1e-5, [True] * 3),
    ]:
        with pytest.raises(RuntimeError):
            bad()


def test_an_empty_batch_has_zero_weight_gradients():
    x, weight = torch.randn(0, 12, 4, requires_grad=True), torch.ones(12, requires_grad=True)
    y = ops.group_norm(x, 3, weight)
    y.sum().backward()
    assert y.shape == x.shape and torch.equal(weight.grad, torch.zeros(12))
