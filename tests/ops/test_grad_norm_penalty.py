"""fastgan.ops.grad_norm_penalty: known answers; tests/contract has what it shares with all ops."""

import pytest
import torch

from fastgan.ops import grad_norm_penalty
from fastgan.ops.grad_norm_penalty import KINDS

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def gradient(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


@pytest.mark.parametrize("batch", [1, 4, 16, 64])
def test_penalty_of_a_linear_critic_is_known_at_every_batch_size(batch):
    """D(x) = w.x: (|w| - t)^2, whatever the batch; a norm over the whole batch would grow with it."""
    w = torch.randn(3, 5, 7, dtype=torch.float64)
    grad = w.expand(batch, 3, 5, 7)
    torch.testing.assert_close(grad_norm_penalty(grad, target=0.5), (w.norm() - 0.5) ** 2)
    torch.testing.assert_close(grad_norm_penalty(grad, kind="squared"), w.square().sum())


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


@pytest.mark.parametrize("kind", KINDS)
def test_one_number_a_sample_works_in_every_mode(kind):
    """(B,): the reference serves the call, and has every order."""
    grad = gradient(16)
    penalty = grad_norm_penalty(grad, kind=kind)
    (first,) = torch.autograd.grad(penalty, grad, create_graph=True)
    torch.testing.assert_close(torch.func.grad(lambda g: grad_norm_penalty(g, kind=kind))(grad.detach()), first)
    (second,) = torch.autograd.grad(first.square().sum(), grad, create_graph=True)
    (third,) = torch.autograd.grad(second.square().sum(), grad)
    assert third.isfinite().all()
