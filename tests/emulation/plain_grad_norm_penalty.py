"""The three ops in plain torch, by autograd in float64; and gradients to try them on."""

import torch

KINDS = (0, 1, 2)  # two-sided, one-sided, squared


def grad_norm_penalty(grad, target, kind, eps):
    norms = (grad.double().reshape(len(grad), -1).square().sum(1) + eps).sqrt()
    return _penalty(norms, target, kind), norms


def _penalty(norms, target, kind):
    if kind == 2:
        return norms.square().mean()
    over = norms - target
    return (over.relu() if kind == 1 else over).square().mean()


def grad_norm_penalty_backward(grad_penalty, grad_norms, grad, norms, target, kind, output_mask):
    """w_i grad_i with w = (grad_penalty f'(n) / B + grad_norms) / n, zero at n = 0 but for "squared"."""
    return _gradient(*(t.double() for t in (grad_penalty, grad_norms, grad, norms)), target, kind)


def _gradient(grad_penalty, grad_norms, grad, norms, target, kind):
    safe = torch.where(norms == 0, 1.0, norms)
    share = grad_penalty / len(norms)
    slope = {
        0: 2 * (norms - target) / safe,
        1: 2 * (norms - target).relu() / safe,
        2: torch.full_like(norms, 2.0),
    }[kind]
    factors = torch.where((norms == 0) & (kind != 2), 0.0, slope) * share
    factors = factors + torch.where(norms == 0, 0.0, grad_norms / safe)
    return factors.reshape(-1, *[1] * (grad.dim() - 1)) * grad


def grad_norm_penalty_double_backward(h, grad_penalty, grad_norms, grad, norms, target, kind, output_mask):
    inputs = [t.double().requires_grad_() for t in (grad_penalty, grad_norms, grad, norms)]
    return torch.autograd.grad(_gradient(*inputs, target, kind), inputs, h.double(), materialize_grads=True)


class Gradients:
    """Random arguments of the ops for a gradient of the given shape; every third sample of `zeros` is zero."""

    def __init__(self, shape, dtype=torch.float32, seed=0, misaligned=False, zeros=False, kind=0, target=1.3, eps=0.0):
        generator = torch.Generator().manual_seed(seed)

        def random(shape, dtype):
            storage = torch.randn(torch.Size(shape).numel() + 1, generator=generator, dtype=torch.float64).to(dtype)
            return (storage[1:] if misaligned else storage[1:].clone()).view(shape)

        accumulate = torch.float64 if dtype == torch.float64 else torch.float32
        self.grad, self.h = random(shape, dtype), random(shape, dtype)
        if zeros:
            self.grad[::3] = 0
        self.cotangents = random((), accumulate), random(shape[:1], accumulate)
        self.norms = grad_norm_penalty(self.grad, target, kind, eps)[1].to(accumulate)
        self.target, self.kind, self.eps = target, kind, eps

    def calls(self):
        """(the plain function, the arguments) of every op."""
        yield grad_norm_penalty, (self.grad, self.target, self.kind, self.eps)
        saved = (*self.cotangents, self.grad, self.norms, self.target, self.kind)
        yield grad_norm_penalty_backward, (*saved, [True])
        yield grad_norm_penalty_double_backward, (self.h, *saved, [True] * 4)
