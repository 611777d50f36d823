"""fastgan.ops.attention: right to second order against fp64 plain torch, an exception beyond it and for bad input."""

import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.library import opcheck

from fastgan.ops import attention, attention_reference, scaled_dot_product_attention

CASES = [  # B, H, N, M, D, Dv
    (1, 1, 5, 7, 3, 2),
    (2, 3, 50, 70, 8, 8),
    (1, 2, 100, 33, 32, 128),
    (1, 1, 97, 400, 64, 17),  # three blocks of keys, ragged strips
    (1, 1, 1, 1, 1, 1),
    (1, 1, 7, 9, 256, 200),
]
VARIANTS = {
    "dot": {},
    "causal": {"is_causal": True},
    "l2": {"similarity": "l2", "scale": 0.3},
    "key_bias": {"key_bias": True},
    "all": {"similarity": "l2", "key_bias": True, "is_causal": True},
}


@pytest.fixture(autouse=True)
def poisoned_empty():
    """Memory that a kernel forgets to write is NaN."""
    torch.use_deterministic_algorithms(True)
    fill, torch.utils.deterministic.fill_uninitialized_memory = (
        torch.utils.deterministic.fill_uninitialized_memory,
        True,
    )
    yield
    torch.utils.deterministic.fill_uninitialized_memory = fill
    torch.use_deterministic_algorithms(False)


def operands(case, key_bias=False, seed=0, scale=1.0):
    """q, k, v and perhaps key_bias in fp64."""
    B, H, N, M, D, Dv = case
    generator = torch.Generator().manual_seed(seed)
    shapes = [(B, H, N, D), (B, H, M, D), (B, H, M, Dv)] + ([(B, H, M)] if key_bias else [])
    return [torch.randn(*s, generator=generator, dtype=torch.float64) * scale for s in shapes]


def cycle(function, tensors, dtype=torch.float64, seed=1, **kwargs):
    """Output, first and second derivatives with random cotangents, in fp64; the inputs rounded to dtype."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [t.to(dtype).requires_grad_() for t in tensors]
    if len(inputs) == 4:
        kwargs["key_bias"] = inputs[3]
    out = function(*inputs[:3], **kwargs)

    def cotangent(t):
        return torch.randn(t.shape, generator=generator, dtype=torch.float64).to(dtype)

    grad_out = cotangent(out).requires_grad_()
    first = torch.autograd.grad(out, inputs, grad_out, create_graph=True)
    second = torch.autograd.grad(first, [grad_out, *inputs], [cotangent(t) for t in first], materialize_grads=True)
    return [t.detach().double() for t in (out, *first, *second)]


def relative_error(ours, expected):
    return ((ours - expected).norm() / expected.norm().clamp_min(1e-30)).item()


def assert_cycle(tensors, dtype, rtol, **kwargs):
    rounded = [t.to(dtype).double() for t in tensors]
    ours, expected = cycle(attention, tensors, dtype, **kwargs), cycle(attention_reference, rounded, **kwargs)
    largest = max(t.norm() for t in expected)
    for i, (a, b) in enumerate(zip(ours, expected, strict=True)):
        # Sums that cancel to nothing (one key: no derivative of the softmax) have no relative error.
        assert (a - b).norm() <= rtol * max(b.norm(), 1e-2 * largest), (i, relative_error(a, b))


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_output_and_both_derivatives_are_plain_torchs(case, variant, dtype, rtol):
    kwargs = dict(VARIANTS[variant])
    tensors = operands(case, kwargs.pop("key_bias", False))
    if kwargs.get("similarity") == "l2" and dtype == torch.float32:
        rtol *= 5  # |q - k|^2 by parts cancels
    assert_cycle(tensors, dtype, rtol, **kwargs)


@settings(max_examples=60, deadline=None)
@given(
    case=st.tuples(*(st.integers(1, n) for n in (2, 2, 110, 110, 40, 40))),
    variant=st.sampled_from(sorted(VARIANTS)),
    seed=st.integers(0, 1000),
)
def test_any_shape(case, variant, seed):
    kwargs = dict(VARIANTS[variant])
    assert_cycle(operands(case, kwargs.pop("key_bias", False), seed), torch.float64, 1e-11, **kwargs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", ["dot", "l2", "causal"])
def test_half_precision_error_is_at_most_twice_plain_torchs(variant, dtype):
    """Three times for gradients; plain torch computes in the same dtype, both are compared with fp64."""
    kwargs = VARIANTS[variant]
    tensors = [t.to(dtype).double() for t in operands((2, 2, 130, 90, 24, 40))]

    def plain(q, k, v, scale=24**-0.5, similarity="dot", is_causal=False):
        if similarity == "l2":
            logits = -scale * (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1)
        else:
            logits = scale * (q @ k.mT)
        if is_causal:
            logits = logits.masked_fill(torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1), -math.inf)
        return logits.softmax(-1) @ v

    exact = cycle(attention_reference, tensors, **kwargs)
    ours, theirs = cycle(attention, tensors, dtype, **kwargs), cycle(plain, tensors, dtype, **kwargs)
    for i, (a, b, e) in enumerate(zip(ours, theirs, exact, strict=True)):
        assert relative_error(a, e) <= (2 if i == 0 else 3) * relative_error(b, e), i


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_peaked_rows_stay_exact(dtype, rtol):
    """Logits of +-80: nearly one-hot rows, whose second derivative is a difference of nearly equal numbers."""
    q, k, v = operands((1, 2, 60, 300, 16, 16))
    logits = (q @ k.mT).abs().amax()
    tensors = [(q * (80 / logits)).float().double(), k.float().double(), v.float().double()]
    ours = cycle(attention, tensors, dtype, scale=1.0)
    expected = cycle(attention_reference, tensors, scale=1.0)
    plain = cycle(attention_reference, tensors, dtype, scale=1.0)
    for i, (a, b, p) in enumerate(zip(ours, expected, plain, strict=True)):
        assert torch.isfinite(a).all()
        assert relative_error(a, b) <= max(5 * relative_error(p, b), 1e-12), i
        assert relative_error(a, b) <= rtol, i


@pytest.mark.parametrize("scale", [1e-8, 1e3, -1.0, 0.0])
def test_tiny_huge_and_negative_scales(scale):
    assert_cycle(operands((1, 2, 40, 60, 8, 8), scale=0.5), torch.float64, 1e-9, scale=scale)


def test_logits_beyond_the_range_of_exp():
    q, k, v = operands((1, 1, 10, 20, 4, 4))
    for dtype in (torch.float32, torch.float64):
        out = attention((q * 1e4).to(dtype), k.to(dtype), v.to(dtype))
        torch.testing.assert_close(out.double(), attention_reference(q * 1e4, k, v), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradcheck_and_gradgradcheck_on_the_compiled_op(variant):
    kwargs = dict(VARIANTS[variant])
    tensors = [t.requires_grad_() for t in operands((1, 2, 5, 6, 3, 4), kwargs.pop("key_bias", False))]

    def function(q, k, v, key_bias=None):
        return attention(q, k, v, key_bias=key_bias, **kwargs)

    assert gradcheck(function, tensors)
    assert gradgradcheck(function, tensors)


def test_logsumexp_is_differentiable_to_second_order():
    q, k, v, bias = (t.requires_grad_() for t in operands((1, 1, 4, 5, 3, 2), key_bias=True))

    def both(q, k, v, bias):
        return torch.ops.fastgan.attention(q, k, v, bias, 0.7, False)

    torch.testing.assert_close(both(q, k, v, bias)[1], (0.7 * q @ k.mT + bias[..., None, :]).logsumexp(-1))
    assert gradcheck(both, (q, k, v, bias))
    assert gradgradcheck(both, (q, k, v, bias))
    assert gradgradcheck(lambda *t: both(*t)[1], (q, k, v, bias))


@pytest.mark.parametrize("needed", range(1, 16))
def test_every_combination_of_who_requires_grad(needed):
    """Gradients, their graphs and their absence are plain torch's, whoever asks."""
    tensors = operands((1, 2, 20, 30, 8, 4), key_bias=True)
    results = []
    for function in (attention, attention_reference):
        inputs = [t.clone().requires_grad_(bool(needed >> i & 1)) for i, t in enumerate(tensors)]
        asked = [t for t in inputs if t.requires_grad]
        out = function(*inputs[:3], key_bias=inputs[3])
        first = torch.autograd.grad(out.square().sum(), asked, create_graph=True)
        for second_from in range(1, 2 ** len(first)):  # a penalty may use any of the first gradients
            some = [g for i, g in enumerate(first) if second_from >> i & 1]
            penalty = sum(g.square().sum() for g in some)
            results.append(torch.autograd.grad(penalty, asked, retain_graph=True, materialize_grads=True))
        results.append(first)
    half = len(results) // 2
    for ours, expected in zip(results[:half], results[half:], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)


def test_parallel_path_keeps_its_second_derivative():
    """A critic attention(x) + linear(x): where a kernel's gradient is a constant, the penalty's is silently wrong."""
    torch.manual_seed(0)
    x = torch.randn(3, 2, 12, 8, dtype=torch.float64, requires_grad=True)
    weights = [torch.randn(8, 8, dtype=torch.float64, requires_grad=True) for _ in range(4)]

    def penalty_gradients(function):
        q, k, v, linear = (x @ w for w in weights)
        scores = (function(q, k, v) + linear).square().sum()
        (gradient,) = torch.autograd.grad(scores, x, create_graph=True)
        penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        return torch.autograd.grad(penalty, weights)

    math_backend = penalty_gradients(lambda q, k, v: (q @ k.mT / math.sqrt(8)).softmax(-1) @ v)
    torch.testing.assert_close(penalty_gradients(attention), math_backend, rtol=1e-10, atol=1e-10)


def test_third_order_raises():
    q, k, v = (t.requires_grad_() for t in operands((1, 1, 4, 5, 3, 3)))
    first = torch.autograd.grad(attention(q, k, v).square().sum(), q, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), q, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="no further derivative"):
        torch.autograd.grad(second.sum(), q)


def test_forward_mode_is_right_and_the_bare_op_raises():
    (q, k, v), (dq, dk, dv) = operands((1, 2, 4, 5, 3, 3)), operands((1, 2, 4, 5, 3, 3), seed=5)
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(t, d) for t, d in ((q, dq), (k, dk), (v, dv))]
        tangent = forward_ad.unpack_dual(attention(*duals, similarity="l2")).tangent
        with pytest.raises(NotImplementedError, match="forward-mode"):
            torch.ops.fastgan.attention(*duals, None, 1.0, False)
    h = 1e-6
    above, below = (attention(q + s * dq, k + s * dk, v + s * dv, similarity="l2") for s in (h, -h))
    torch.testing.assert_close(tangent, (above - below) / (2 * h), rtol=1e-6, atol=1e-8)


def test_torch_func_transforms_are_right():
    q, k, v = operands((2, 2, 4, 5, 3, 3))

    def loss(q):
        return attention(q, k, v).square().sum()

    expected = torch.autograd.grad(loss(q.requires_grad_()), q)[0]
    q = q.detach()
    torch.testing.assert_close(torch.func.grad(loss)(q), expected)
    torch.testing.assert_close(torch.func.jvp(loss, (q,), (torch.ones_like(q),))[1], expected.sum())
    batched = torch.func.vmap(lambda q, k, v: attention(q[None], k[None], v[None])[0])(q, k, v)
    torch.testing.assert_close(batched, attention(q, k, v))
    hessian_vector = torch.func.jvp(torch.func.grad(loss), (q,), (torch.ones_like(q),))[1]
    assert torch.isfinite(hessian_vector).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_opcheck_on_every_op(dtype):
    q, k, v, bias = operands((2, 2, 9, 11, 5, 6), key_bias=True)
    q, k, v = (t.to(dtype).requires_grad_() for t in (q, k, v))
    bias = bias.to(torch.float64 if dtype == torch.float64 else torch.float32).requires_grad_()
    ops = torch.ops.fastgan
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    opcheck(ops.attention.default, (q, k, v, bias, 0.5, True), test_utils=tests)
    out, logsumexp = (t.detach() for t in ops.attention(q, k, v, bias, 0.5, True))
    grad_out, grad_lse = torch.randn_like(out).requires_grad_(), torch.randn_like(logsumexp).requires_grad_()
    saved = (grad_out, grad_lse, q, k, v, bias, out, logsumexp, 0.5, True)
    for mask in ([True] * 4, [True, False, True, False]):
        opcheck(ops.attention_backward.default, (*saved, mask), test_utils=tests)
    fixed = [t.detach() if isinstance(t, torch.Tensor) else t for t in saved]
    cotangents = [torch.randn_like(t) for t in (q, k, v, bias)]
    opcheck(ops.attention_double_backward.default, (*cotangents, *fixed, [True] * 6))
    opcheck(
        ops.attention_double_backward.default,
        (None, cotangents[1], None, None, *fixed, [True, False, False, True, False, False]),
    )


@pytest.mark.parametrize("variant", ["dot", "all"])
def test_compile_fullgraph_of_a_whole_penalty(variant):
    kwargs = dict(VARIANTS[variant])
    tensors = operands((2, 2, 9, 12, 4, 6), kwargs.pop("key_bias", False))
    q, k, v = tensors[:3]
    weight = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)

    def penalty(q, k, v, weight):
        out = attention(q @ weight, k @ weight, v, **kwargs)
        (gradient,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()

    q.requires_grad_()
    expected = torch.autograd.grad(penalty(q, k, v, weight), weight)
    with torch._dynamo.config.patch(trace_autograd_ops=True):  # torch's switch for autograd.grad inside a graph
        compiled = torch.compile(penalty, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(torch.autograd.grad(compiled(q, k, v, weight), weight), expected)


def test_autocast_casts_as_torchs_own_attention_does():
    q, k, v = (t.float().requires_grad_() for t in operands((1, 2, 20, 30, 8, 8)))
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = attention(q, k, v), F.scaled_dot_product_attention(q, k, v)
        mixed = attention(q.bfloat16(), k, v)
    assert ours.dtype == theirs.dtype == mixed.dtype == torch.bfloat16
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
    first = torch.autograd.grad(ours.float().square().sum(), (q, k, v), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), (q, k, v))
    assert all(t.dtype == torch.float32 and torch.isfinite(t).all() for t in (*first, *second))


def test_hidden_keys_do_not_count_and_rows_without_keys_are_zero():
    q, k, v, bias = operands((1, 2, 6, 8, 4, 4), key_bias=True)
    bias[..., 5:] = -math.inf
    ours = cycle(lambda q, k, v: attention(q, k, v, key_bias=bias), (q, k, v))
    fewer = cycle(lambda q, k, v: attention(q, k[..., :5, :], v[..., :5, :], key_bias=bias[..., :5]), (q, k, v))
    for a, b in zip(ours, fewer, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    bias[:] = -math.inf
    assert all((t == 0).all() for t in cycle(lambda q, k, v: attention(q, k, v, key_bias=bias), (q, k, v)))
    assert (attention_reference(q, k, v, key_bias=bias) == 0).all()


def test_causal_is_torchs_top_left_mask_where_lengths_differ():
    for N, M in ((5, 9), (9, 5), (60, 200), (200, 60)):
        q, k, v = operands((1, 2, N, M, 4, 4))
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        torch.testing.assert_close(attention(q, k, v, is_causal=True), expected)


@pytest.mark.parametrize(
    "case", [(2, 1, 0, 5, 3, 2), (2, 1, 5, 0, 3, 2), (0, 1, 5, 5, 3, 2), (1, 0, 5, 5, 3, 2)], ids=str
)
def test_empty_inputs_are_as_in_torch(case):
    tensors = operands(case)
    ours = cycle(attention, tensors)
    torch.testing.assert_close(ours[0], F.scaled_dot_product_attention(*tensors))
    torch.testing.assert_close(ours, cycle(attention_reference, tensors))


def test_batch_and_heads_broadcast():
    q, k, v = operands((2, 3, 10, 12, 4, 5))
    pieces = [q, k[:1], v[:, :1]]
    for a, b in zip(cycle(attention, pieces), cycle(attention_reference, pieces), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    for bias in (torch.randn(12), torch.randn(3, 1), torch.randn(2, 1, 12), torch.randn(1)):
        torch.testing.assert_close(attention(q, k, v, key_bias=bias), attention_reference(q, k, v, key_bias=bias))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_views_of_any_stride_give_the_same_bits(dtype):
    q, k, v = (t.to(dtype) for t in operands((2, 3, 50, 70, 16, 24)))
    expected = cycle(attention, (q, k, v), dtype)

    def channels_first(t):
        return t.mT.contiguous().mT

    def every_other(t):
        return torch.stack([t, t], -1).flatten(-2)[..., ::2]

    def heads_inside(t):
        return t.transpose(1, 2).contiguous().transpose(1, 2)

    for view in (channels_first, every_other, heads_inside):
        ours = cycle(lambda q, k, v, view=view: attention(view(q), view(k), view(v)), (q, k, v), dtype)
        for a, b in zip(ours, expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("case", [(1, 1, 300, 90, 16, 8), (3, 2, 70, 40, 8, 8)], ids=str)
def test_results_do_not_depend_on_the_number_of_threads(case):
    tensors, before = operands(case), torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(cycle(attention, tensors, torch.float32, is_causal=True))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set_is_right(isa):
    """FASTGAN_ISA asks for a lower one; where the processor has no such instruction set the best below it is tested."""
    code = "\n".join(
        [
            "import test_attention as t, torch",
            "for dtype, rtol in ((torch.float64, 1e-12), (torch.float32, 3e-5)):",
            "    for case in t.CASES: t.assert_cycle(t.operands(case, True), dtype, rtol, is_causal=True)",
        ]
    )
    here = os.path.dirname(__file__)
    environment = {**os.environ, "FASTGAN_ISA": isa, "PYTHONPATH": os.pathsep.join([here, *sys.path])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=300)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak memory from /proc")
def test_memory_is_linear_in_the_number_of_tokens():
    """The whole cycle of 2048 tokens below the size of one score matrix (16 MiB), in a process of its own."""
    code = "\n".join(
        [
            "import torch, test_attention as t",
            "from fastgan.ops import attention",
            "torch.set_num_threads(1)",
            "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])",
            "t.cycle(attention, t.operands((1, 1, 64, 64, 8, 8)), torch.float32)",
            "tensors = t.operands((1, 1, 2048, 2048, 8, 8))",
            "before = peak()",
            "t.cycle(attention, tensors, torch.float32)",
            "print(peak() - before)",
        ]
    )
    here = os.path.dirname(__file__)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, timeout=300, capture_output=True, text=True
    )
    assert int(done.stdout) < 16 * 1024  # KiB


def test_drop_in_for_torchs_function():
    q, k, v = operands((2, 3, 10, 12, 4, 5))
    mask = torch.rand(12) > 0.4
    for args in (
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": mask[None]},
        {"attn_mask": mask.double()[None]},
    ):
        expected = F.scaled_dot_product_attention(q, k, v, **args)
        torch.testing.assert_close(scaled_dot_product_attention(q, k, v, **args), expected)
    for dims in (0, 1, 3):  # any number of leading dimensions
        few = [t[0, 0] if dims == 0 else t[0] if dims == 1 else t[None] for t in (q, k, v)]
        torch.testing.assert_close(scaled_dot_product_attention(*few), F.scaled_dot_product_attention(*few))
    per_head = torch.randn(2, 3, 1, 12, dtype=torch.float64)
    torch.testing.assert_close(
        scaled_dot_product_attention(q, k, v, per_head.expand(2, 3, 10, 12)),
        F.scaled_dot_product_attention(q, k, v, per_head),
    )


def test_drop_in_raises_for_what_it_cannot_mean():
    q, k, v = operands((1, 2, 10, 12, 4, 5))
    for args, message in (
        ({"dropout_p": 0.1}, "dropout_p must be 0"),
        ({"enable_gqa": True}, "repeat_interleave"),
        ({"attn_mask": torch.zeros(10, 12)}, "is_causal=True"),
        ({"attn_mask": torch.zeros(1, 7)}, "must broadcast"),
    ):
        with pytest.raises(ValueError, match=message):
            scaled_dot_product_attention(q, k, v, **args)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"q": None}, TypeError, "q must be a tensor, got NoneType"),
        ({"k": torch.zeros(3)}, ValueError, r"k must have shape \(batch, heads, rows, channels\), got \(3,\)"),
        (
            {"q": torch.zeros(1, 1, 2, 3, dtype=torch.int64)},
            TypeError,
            "q must be float64, float32, bfloat16 or float16",
        ),
        ({"v": torch.zeros(1, 1, 5, 3)}, TypeError, "v must be torch.float64 like q, got torch.float32"),
        ({"k": torch.zeros(1, 1, 5, 4, dtype=torch.float64)}, ValueError, "k must have q's 3 channels"),
        ({"v": torch.zeros(1, 1, 6, 3, dtype=torch.float64)}, ValueError, "v must have one row per key: 5 keys"),
        ({"k": torch.zeros(3, 2, 5, 3, dtype=torch.float64)}, ValueError, "agree in batch and heads"),
        ({"q": torch.zeros(1, 1, 2, 0), "k": torch.zeros(1, 1, 5, 0)}, TypeError, "v must be torch.float32"),
        ({"similarity": "cosine"}, ValueError, "similarity must be one of dot, l2"),
        ({"scale": torch.ones(())}, TypeError, "scale must be a number, got Tensor"),
        ({"key_bias": torch.ones(5, dtype=torch.bool)}, TypeError, "key_bias must be a floating-point tensor"),
        ({"key_bias": torch.ones(4)}, ValueError, "key_bias must be broadcastable"),
        ({"v": torch.zeros(1, 1, 5, 3, device="meta")}, TypeError, "v must be on cpu like q, got meta"),
    ],
)
def test_bad_input_names_the_argument(change, error, message):
    q, k, v = operands((2, 2, 4, 5, 3, 3))
    for function in (attention, attention_reference):
        with pytest.raises(error, match=message):
            function(**{"q": q, "k": k, "v": v, **change})


def test_a_direct_call_with_nonsense_raises_instead_of_crashing():
    q, k, v = operands((1, 1, 4, 5, 3, 2))
    out, lse = torch.ops.fastgan.attention(q, k, v, None, 1.0, False)
    op = torch.ops.fastgan
    bad = [
        lambda: op.attention(q[0], k, v, None, 1.0, False),
        lambda: op.attention(q, k.float(), v, None, 1.0, False),
        lambda: op.attention(q, k[..., :2], v, None, 1.0, False),
        lambda: op.attention(q, k, v[..., :2, :], None, 1.0, False),
        lambda: op.attention(q, k, v, torch.zeros(5), 1.0, False),
        lambda: op.attention(q, k, v, torch.zeros(1, 1, 5), 1.0, False),  # fp32 where fp64 is due
        lambda: op.attention(q.long(), k.long(), v.long(), None, 1.0, False),
        lambda: op.attention(q[..., :0], k[..., :0], v, None, 1.0, False),
        lambda: op.attention_backward(out[..., :1], None, q, k, v, None, out, lse, 1.0, False, [True] * 4),
        lambda: op.attention_backward(out, lse[..., :2], q, k, v, None, out, lse, 1.0, False, [True] * 4),
        lambda: op.attention_backward(out, None, q, k, v, None, out, lse.float(), 1.0, False, [True] * 4),
        lambda: op.attention_double_backward(
            k, None, None, None, out, None, q, k, v, None, out, lse, 1.0, False, [True] * 6
        ),
        lambda: op.attention_double_backward(
            None, k, q, None, out, None, q, k, v, None, out, lse, 1.0, False, [True] * 6
        ),
    ]
    for call in bad:
        with pytest.raises(RuntimeError):
            call()


def test_nan_and_infinity_follow_the_arithmetic():
    q, k, v = operands((1, 1, 60, 70, 8, 8))
    for dtype in (torch.float32, torch.float64):
        for position, value in (((0, 0, 3, 1), math.nan), ((0, 0, 5, 0), math.inf)):
            broken = q.clone()
            broken[position] = value
            ours = attention(broken.to(dtype), k.to(dtype), v.to(dtype))
            assert ours[0, 0, position[2]].isnan().all()
            assert ours.isnan().sum() == 8  # that row alone
