"""Known answers, extreme logits, masks and memory of the attention; tests/contract has what all ops promise."""

import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

from fastgan.ops import attention, attention_jvp, attention_reference, scaled_dot_product_attention
from tests.contract.attention import case
from tests.contract.check import check
from tests.contract.closeness import relative_error
from tests.contract.derivatives import derivatives

MODULE = sys.modules["fastgan.ops.attention"]  # the package's attribute of this name is the function


def operands(size, key_bias=False):
    """q, k, v and perhaps key_bias in fp64."""
    B, H, N, M, D, Dv = size
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, H, N, D), (B, H, M, D), (B, H, M, Dv)] + ([(B, H, M)] if key_bias else [])
    return [torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes]


def cycle(function, tensors, dtype=torch.float64, **setting):
    """The output, the first and the second derivatives, by name."""
    inputs = dict(zip("qkv", (t.to(dtype) for t in tensors), strict=True))
    return derivatives(lambda q, k, v: {"out": function(q, k, v, **setting)}, inputs, rounding=dtype)


def forward_mode(function, tensors, dtype=torch.float64, **setting):
    """The output and its tangent; the tensors are their own tangents."""
    with forward_ad.dual_level():
        q, k, v = (forward_ad.make_dual(t.to(dtype), t.to(dtype)) for t in tensors)
        return forward_ad.unpack_dual(function(q, k, v, **setting))


SETTINGS = [{}, {"similarity": "l2", "scale": 0.3}, {"similarity": "l2", "is_causal": True}]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_forward_mode_is_right_and_calls_the_kernels(setting, monkeypatch):
    tensors = [t.requires_grad_() for t in operands((1, 2, 5, 4, 3, 2), key_bias=True)]
    monkeypatch.setattr(MODULE, "_reference", None)  # the N x M matrix

    def function(q, k, v, key_bias):
        return attention(q, k, v, key_bias=key_bias, **setting)

    torch.autograd.gradcheck(function, tensors, check_forward_ad=True, check_backward_ad=False)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_jvp_has_a_derivative(setting):
    """As a function of tensors that broadcast and of their tangents; one tangent is missing."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 2, 5, 3), (2, 1, 4, 3), (2, 2, 4, 2), (4,)]
    shapes = [*shapes, *shapes]
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]

    def function(q, k, v, key_bias, x, y, z, x_bias):
        return attention_jvp(q, k, v, x, y, z, key_bias=key_bias, key_bias_tangent=x_bias, **setting)

    torch.autograd.gradcheck(function, tensors)
    torch.autograd.gradcheck(
        lambda q, v, y: attention_jvp(q, tensors[1], v, None, y, **setting), [*tensors[:3:2], tensors[5]]
    )
    primals, tangents = tensors[:4], tensors[4:]
    reference = torch.func.jvp(
        lambda q, k, v, key_bias: attention_reference(q, k, v, key_bias=key_bias, **setting),
        tuple(t.detach() for t in primals),
        tuple(t.detach() for t in tangents),
    )
    for ours, expected in zip(function(*tensors), reference, strict=True):
        torch.testing.assert_close(ours.detach(), expected, rtol=1e-12, atol=1e-12)


def test_jvp_raises_beyond_its_derivatives():
    q, k, v = (t.requires_grad_() for t in operands((1, 1, 4, 4, 3, 3)))
    x = torch.ones_like(q)
    _, tangent = attention_jvp(q, k, v, x)
    (grad,) = torch.autograd.grad(tangent.sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="no further derivative"):
        torch.autograd.grad(grad.sum(), q)


def test_jvp_under_torch_func_is_right_to_second_order():
    q, k, v = operands((1, 1, 4, 4, 3, 3))

    def ours(q):
        return attention_jvp(q, k, v, k)[1].square().sum()

    def expected(q):
        return torch.func.jvp(lambda q: attention_reference(q, k, v), (q,), (k,))[1].square().sum()

    for transform in (torch.func.grad, torch.func.hessian):
        torch.testing.assert_close(transform(ours)(q), transform(expected)(q), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"q_tangent": None}, "one tangent at least"),
        ({"q_tangent": torch.zeros(1, 1, 4, 2)}, r"q_tangent must be like q, \(1, 1, 4, 3\)"),
        ({"v_tangent": torch.zeros(1, 1, 4, 3, dtype=torch.float32)}, "v_tangent must be like v"),
        ({"key_bias_tangent": torch.zeros(4)}, "key_bias_tangent must be None without key_bias"),
    ],
    ids=str,
)
def test_jvp_names_a_wrong_tangent(change, message):
    q, k, v = operands((1, 1, 4, 4, 3, 3))
    with pytest.raises(ValueError, match=message):
        attention_jvp(q, k, v, **{"q_tangent": q, **change})


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="a torch without CUDA")
@pytest.mark.parametrize("capability, served_by", [(7, "reference"), (8, "kernel")])
def test_a_gpu_without_matrix_units_gets_the_reference(capability, served_by, monkeypatch):
    served = []
    monkeypatch.setattr(MODULE, "_known_capability", lambda device: capability)
    monkeypatch.setattr(MODULE, "_route", lambda *tensors: lambda q, *rest: (served.append("kernel"), None))
    monkeypatch.setattr(MODULE, "_reference", lambda *arguments: served.append("reference"))
    with FakeTensorMode():
        q = torch.empty(1, 1, 4, 4, device="cuda")
        attention(q, q, q)
    assert served == [served_by]


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_peaked_rows_stay_exact(dtype, rtol):
    """Logits of +-80: nearly one-hot rows. Their second derivative is a difference of nearly equal numbers."""
    q, k, v = operands((1, 2, 60, 300, 16, 16))
    logits = (q @ k.mT).abs().amax()
    tensors = [(q * (80 / logits)).float().double(), k.float().double(), v.float().double()]
    ours = cycle(attention, tensors, dtype, scale=1.0)
    expected = cycle(attention_reference, tensors, scale=1.0)
    plain = cycle(attention_reference, tensors, dtype, scale=1.0)
    for name, exact in expected.items():
        error = relative_error(ours[name], exact)
        assert error <= min(max(5 * relative_error(plain[name], exact), 1e-12), rtol), name


def test_a_huge_scale_is_right_to_second_order():
    check(case("huge scale", 1, 2, 40, 60, 8, 8, scale=250.0, float64=1e-9))


def test_logits_beyond_the_range_of_exp():
    q, k, v = operands((1, 1, 10, 20, 4, 4))
    for dtype in (torch.float32, torch.float64):
        out = attention((q * 1e4).to(dtype), k.to(dtype), v.to(dtype))
        torch.testing.assert_close(out.double(), attention_reference(q * 1e4, k, v), rtol=1e-4, atol=1e-4)


def test_parallel_path_keeps_its_second_derivative():
    """A critic attention(x) + linear(x): if a kernel's gradient is a constant, the penalty's gradient is wrong."""
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


def test_hidden_keys_do_not_count_and_rows_without_keys_are_zero():
    q, k, v, bias = operands((1, 2, 6, 8, 4, 4), key_bias=True)
    bias[..., 5:] = -math.inf
    ours = cycle(lambda q, k, v: attention(q, k, v, key_bias=bias), (q, k, v))
    fewer = cycle(lambda q, k, v: attention(q, k[..., :5, :], v[..., :5, :], key_bias=bias[..., :5]), (q, k, v))
    for name in ours:
        torch.testing.assert_close(ours[name], fewer[name], rtol=1e-12, atol=1e-12)
    bias[:] = -math.inf
    assert all((t == 0).all() for t in cycle(attention, (q, k, v), key_bias=bias).values())
    assert (attention_reference(q, k, v, key_bias=bias) == 0).all()


def test_causal_is_torchs_top_left_mask_where_lengths_differ():
    for N, M in ((5, 9), (9, 5), (60, 200), (200, 60)):
        q, k, v = operands((1, 2, N, M, 4, 4))
        expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        torch.testing.assert_close(attention(q, k, v, is_causal=True), expected)


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
        assert [name for name in ours if not torch.equal(ours[name], expected[name])] == []


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak memory from /proc")
def test_memory_is_linear_in_the_number_of_tokens():
    """A cycle and forward mode of 2048 tokens below the size of one score matrix (16 MiB), in a separate process."""
    code = "\n".join(
        [
            "import torch, tests.ops.test_attention as t",
            "from fastgan.ops import attention",
            "torch.set_num_threads(1)",
            "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])",
            "t.cycle(attention, t.operands((1, 1, 64, 64, 8, 8)), torch.float32)",
            "t.forward_mode(attention, t.operands((1, 1, 64, 64, 8, 8)), torch.float32)",
            "tensors = t.operands((1, 1, 2048, 2048, 8, 8))",
            "before = peak()",
            "t.cycle(attention, tensors, torch.float32)",
            "t.forward_mode(attention, tensors, torch.float32)",
            "print(peak() - before)",
        ]
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
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


def test_nan_and_infinity_follow_the_arithmetic():
    q, k, v = operands((1, 1, 60, 70, 8, 8))
    for dtype in (torch.float32, torch.float64):
        for position, value in (((0, 0, 3, 1), math.nan), ((0, 0, 5, 0), math.inf)):
            broken = q.clone()
            broken[position] = value
            ours = attention(broken.to(dtype), k.to(dtype), v.to(dtype))
            assert ours[0, 0, position[2]].isnan().all()
            assert ours.isnan().sum() == 8  # that row alone
