"""fastgan.ops.grad_norm_penalty: per sample, known answers, right to second order, exceptions beyond it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.library import opcheck

from fastgan.ops import grad_norm_penalty, grad_norm_penalty_reference
from fastgan.ops.grad_norm_penalty import KINDS

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def gradient(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def naive(grad, target, kind, eps):
    """A loop over the samples."""
    total = 0.0
    for sample in grad:
        n = (sample.square().sum() + (0 if kind == "squared" else eps)).sqrt()
        over = n - target
        total = total + (n * n if kind == "squared" else over.clamp_min(0) ** 2 if kind == "one-sided" else over**2)
    return total / len(grad)


@pytest.mark.parametrize("batch", [1, 4, 16, 64])
def test_penalty_of_a_linear_critic_is_known_at_every_batch_size(batch):
    """D(x) = w.x: (|w| - t)^2, whatever the batch; a norm over the whole batch would grow with it."""
    w = torch.randn(3, 5, 7, dtype=torch.float64)
    grad = w.expand(batch, 3, 5, 7)
    torch.testing.assert_close(grad_norm_penalty(grad, target=0.5), (w.norm() - 0.5) ** 2)
    torch.testing.assert_close(grad_norm_penalty(grad, kind="squared"), w.square().sum())


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    target=st.sampled_from([0.0, 1.0, 2.5]),
    kind=st.sampled_from(list(KINDS)),
    eps=st.sampled_from([0.0, 1e-3]),
    seed=st.integers(0, 100),
)
def test_value_and_gradient_of_any_shape_match_a_loop_over_samples(shape, target, kind, eps, seed):
    grad = gradient(*shape, seed=seed)
    ours = grad_norm_penalty(grad, target=target, kind=kind, eps=eps)
    expected = naive(grad, target, kind, eps)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(torch.autograd.grad(ours, grad), torch.autograd.grad(expected, grad))


@pytest.mark.parametrize("kind", KINDS)
def test_first_and_second_derivative_of_the_compiled_op(kind):
    grad = gradient(3, 4, 2)

    def both_outputs(g):
        return grad_norm_penalty(g, target=2.0, kind=kind, eps=1e-3, return_norms=True)

    assert gradcheck(both_outputs, grad)
    assert gradgradcheck(both_outputs, grad)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_gradient_gives_zero_to_every_order(kind):
    grad = gradient(3, 5)
    with torch.no_grad():
        grad[1] = 0
    penalty = grad_norm_penalty(grad, kind=kind)
    (first,) = torch.autograd.grad(penalty, grad, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), grad)
    assert torch.equal(first[1], torch.zeros(5, dtype=torch.float64))
    assert second.isfinite().all()
    assert penalty.isfinite()


@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_are_accumulated_in_full_precision(dtype):
    grad = gradient(4, 200_000, dtype=dtype)  # longer than a block, and far too long for a half-precision sum
    penalty, norms = grad_norm_penalty(grad, return_norms=True)
    assert penalty.dtype == norms.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    exact = grad.detach().double().norm(dim=1)
    torch.testing.assert_close(norms.double(), exact, rtol=1e-5, atol=0)
    (ours,) = torch.autograd.grad(penalty, grad)
    expected = 2 * (1 - 1 / exact)[:, None] * grad.detach().double() / 4
    rounding = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 2**-8, torch.float16: 2**-10}[dtype]
    torch.testing.assert_close(ours.double(), expected, rtol=2 * rounding, atol=1e-7)


def test_memory_format_is_kept_and_changes_nothing():
    grad = gradient(4, 3, 6, 5)
    channels_last = grad.detach().to(memory_format=torch.channels_last).requires_grad_()
    (ours,) = torch.autograd.grad(grad_norm_penalty(channels_last), channels_last)
    (expected,) = torch.autograd.grad(grad_norm_penalty(grad), grad)
    torch.testing.assert_close(ours, expected)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_result_does_not_depend_on_the_number_of_threads():
    grad = gradient(3, 150_000, dtype=torch.float32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = grad_norm_penalty(grad)
        torch.set_num_threads(3)
        assert torch.equal(one, grad_norm_penalty(grad))
    finally:
        torch.set_num_threads(threads)


def test_third_derivative_raises():
    grad = gradient(3, 4)
    (first,) = torch.autograd.grad(grad_norm_penalty(grad), grad, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(3).sum(), grad, create_graph=True)
    with pytest.raises(NotImplementedError, match="no further derivative"):
        torch.autograd.grad(second.sum(), grad)


def test_forward_mode_and_torch_func_are_right_or_raise():
    grad = gradient(3, 4).detach()
    tangent = torch.randn_like(grad)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(grad, tangent)
        moved = forward_ad.unpack_dual(grad_norm_penalty(dual)).tangent
        with pytest.raises(NotImplementedError, match="forward-mode"):
            torch.ops.fastgan.grad_norm_penalty(dual, 1.0, 0, 0.0)
    expected = torch.func.grad(grad_norm_penalty)(grad)
    torch.testing.assert_close(moved, (expected * tangent).sum())
    leaf = grad.clone().requires_grad_()
    torch.testing.assert_close(expected, torch.autograd.grad(grad_norm_penalty(leaf), leaf)[0])


def test_ops_pass_opcheck():
    grad = gradient(3, 4, 2)
    penalty, norms = grad_norm_penalty(grad.detach(), return_norms=True)
    cotangents = torch.randn_like(penalty).requires_grad_(), torch.randn_like(norms).requires_grad_()
    ops = torch.ops.fastgan
    opcheck(ops.grad_norm_penalty.default, (grad, 1.0, 0, 0.0))
    opcheck(ops.grad_norm_penalty_backward.default, (*cotangents, grad, norms.requires_grad_(), 1.0, 1, [True]))
    constants = [t.detach() for t in (grad, *cotangents, grad, norms)]
    opcheck(ops.grad_norm_penalty_double_backward.default, (*constants, 1.0, 2, [True] * 4))


def test_reference_is_the_same_function():
    grad = gradient(3, 4, 2)
    for kind in KINDS:
        ours = grad_norm_penalty(grad, target=2.0, kind=kind, return_norms=True)
        torch.testing.assert_close(ours, grad_norm_penalty_reference(grad, target=2.0, kind=kind))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"grad": torch.ones(())}, ValueError, "grad must have a non-empty batch"),
        ({"grad": torch.ones(0, 3)}, ValueError, "grad must have a non-empty batch"),
        ({"grad": torch.ones(2, 3, dtype=torch.int64)}, TypeError, "grad must be float64.*int64"),
        ({"grad": 1.0}, TypeError, "grad must be a tensor"),
        ({"grad": torch.ones(2, 3), "kind": "both"}, ValueError, "kind must be one of"),
        ({"grad": torch.ones(2, 3), "eps": -1.0}, ValueError, "eps"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        grad_norm_penalty(**arguments)


def test_bad_input_to_the_raw_ops_raises():
    good, ops = torch.ones(2, 3), torch.ops.fastgan
    for arguments in (
        (torch.ones(()), 1.0, 0, 0.0),
        (good, 1.0, 3, 0.0),
        (good.long(), 1.0, 0, 0.0),
        (good, 1.0, 0, -1.0),
    ):
        with pytest.raises(RuntimeError):
            ops.grad_norm_penalty(*arguments)
    cotangents = torch.ones(()), torch.ones(2)
    for arguments in ((*cotangents, good, torch.ones(3)), (torch.ones(2), torch.ones(2), good, torch.ones(2))):
        with pytest.raises(RuntimeError):
            ops.grad_norm_penalty_backward(*arguments, 1.0, 0, [True])
    with pytest.raises(RuntimeError):
        ops.grad_norm_penalty_double_backward(torch.ones(2, 4), *cotangents, good, torch.ones(2), 1.0, 0, [True] * 4)


@pytest.mark.parametrize("kind", KINDS)
def test_one_number_a_sample(kind):
    """(B,): every mode works; the terms of the second derivative cancel and are added in float32."""
    grad = (0.6 * torch.randn(16, generator=torch.Generator().manual_seed(0))).bfloat16()
    results = []
    for dtype in (torch.bfloat16, torch.float64):
        leaf = grad.to(dtype).requires_grad_()
        value = grad_norm_penalty(leaf, kind=kind)
        (first,) = torch.autograd.grad(value, leaf, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), leaf)
        torch.testing.assert_close(value, grad_norm_penalty_reference(leaf, kind=kind)[0])
        results.append((value, first, second))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-2, atol=1e-4)
    leaf = grad.double()
    of_reference = torch.func.grad(lambda g: grad_norm_penalty(g, kind=kind))(leaf)
    torch.testing.assert_close(of_reference, results[1][1])
