"""fastgan.ops' norms: running and given statistics; tests/contract has what they share with all ops."""

import pytest
import torch
import torch.nn.functional as F

from fastgan import ops

OP = torch.ops.fastgan


def penalty_gradients(norm, x, weight, bias):
    """A critic in which x reaches the output around the norm as well: its gradient penalty and all gradients of it."""
    linear = torch.linspace(0, 9, x[0].numel(), dtype=x.dtype).cos()
    score = F.silu(norm(x, weight, bias)).flatten(1).sum(1) + x.flatten(1).tanh() @ linear
    (g,) = torch.autograd.grad(score.sum(), x, create_graph=True)
    penalty = (g.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty, *torch.autograd.grad(penalty, (x, weight, bias))


def test_statistics_are_no_free_variables_of_the_backward_op():
    x, weight = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 12, 4, 5), 12))
    _, mean, var = OP.normalize(x, weight, None, 3, 1e-5)
    assert not mean.requires_grad and not var.requires_grad
    with pytest.raises(NotImplementedError, match="detach"):
        OP.normalize_backward(x, x, weight, mean.requires_grad_(), var, 3, 1e-5, [True] * 3)


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
    x, weight, bias = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 12, 4, 5), 12, 12))
    mean, var = torch.randn(12, dtype=torch.float64), torch.rand(12, dtype=torch.float64) + 0.5
    args = (x, weight, bias)
    ours = penalty_gradients(lambda x, w, b: ops.batch_norm(x, mean, var, w, b), *args)
    plain = penalty_gradients(lambda x, w, b: F.batch_norm(x, mean, var, w, b), *args)
    torch.testing.assert_close(ours, plain)
    per_sample = [t.detach().expand(3, 12) for t in (weight, bias)]
    torch.testing.assert_close(
        ops.batch_norm(x, mean, var, *per_sample), F.batch_norm(x, mean, var, weight, bias), rtol=1e-9, atol=1e-9
    )
