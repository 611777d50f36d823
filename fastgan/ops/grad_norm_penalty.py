"""The gradient penalty's arithmetic, one pass over the gradient each way (Gulrajani et al., 2017, Algorithm 1)."""

import torch

from fastgan.ops._autograd import needs_reference, register, register_last_order

KINDS = ("two-sided", "one-sided", "squared")  # the op takes the position


def grad_norm_penalty(grad, *, target=1.0, kind="two-sided", eps=0.0, return_norms=False):
    """mean_i f(n_i) with n_i = sqrt(|grad_i|^2 + eps), the norm of sample i over all its elements.

    f(n) is (n - target)^2 for "two-sided", relu(n - target)^2 for "one-sided" (both Gulrajani et al., 2017, section 4),
    n^2 for "squared" (Mescheder et al., 2018, equation 9, without its gamma / 2).

    Args:
        grad: (B, ...), the critic's gradient with respect to its input, any memory format.
        target: the norm asked for; "squared" ignores it.
        eps: added under the root, not for "squared". Zero is safe: where |grad_i| = 0, the derivative is 0, not NaN.
        return_norms: also return the norms (B,), differentiable.

    Returns: the penalty, 0-d; float32 for half precision, as are the norms.

    dtypes: float64, float32, bfloat16, float16; sums accumulate in float32 within blocks and, on the CPU, in float64
    across them (float64 throughout for float64). Each pass reads the gradient once.
    Devices: CPU, CUDA; elsewhere, and under forward-mode AD or torch.func, the plain-torch reference runs.
    Derivatives: to second order with respect to grad; a third order raises.
    Errors: ValueError or TypeError that names the argument.
    """
    _check(grad, kind, eps)
    eps = 0.0 if kind == "squared" else eps
    if needs_reference(grad):
        penalty, norms = grad_norm_penalty_reference(grad, target=target, kind=kind, eps=eps)
    else:
        penalty, norms = torch.ops.fastgan.grad_norm_penalty(_packed(grad), target, KINDS.index(kind), eps)
    return (penalty, norms) if return_norms else penalty


def grad_norm_penalty_reference(grad, *, target=1.0, kind="two-sided", eps=0.0):
    """The same in plain torch: (penalty, norms)."""
    grad = grad.double() if grad.dtype == torch.float64 else grad.float()
    squares = grad.flatten(1).square().sum(1) + eps
    zero = squares == 0
    norms = torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())  # sqrt'(0) is infinite
    if kind == "squared":
        return squares.mean(), norms
    over = norms - target
    return (over.relu() if kind == "one-sided" else over).square().mean(), norms


def _packed(grad):
    """(B, ...) contiguous, without a copy where grad's memory is dense: a norm does not ask for the elements' order."""
    order = sorted(range(1, grad.dim()), key=grad.stride, reverse=True)
    return grad.permute(0, *order).contiguous()


def _check(grad, kind, eps):
    if not isinstance(grad, torch.Tensor):
        raise TypeError(f"grad must be a tensor, got {type(grad).__name__}")
    if grad.dim() < 1 or grad.shape[0] == 0:
        raise ValueError(f"grad must have a non-empty batch dimension (B, ...), got shape {tuple(grad.shape)}")
    if grad.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(f"grad must be float64, float32, bfloat16 or float16, got {grad.dtype}")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if not eps >= 0:
        raise ValueError(f"eps must be at least 0, got {eps}")


# --- shapes, for torch.compile and opcheck


def _accumulator(grad, *shape):
    return grad.new_empty(shape, dtype=torch.float64 if grad.dtype == torch.float64 else torch.float32)


@torch.library.register_fake("fastgan::grad_norm_penalty")
def _(grad, target, kind, eps):
    return _accumulator(grad), _accumulator(grad, grad.shape[0])


@torch.library.register_fake("fastgan::grad_norm_penalty_backward")
def _(grad_penalty, grad_norms, grad, norms, target, kind):
    return grad.new_empty(grad.shape)


@torch.library.register_fake("fastgan::grad_norm_penalty_double_backward")
def _(h, grad_penalty, grad_norms, grad, norms, target, kind):
    batch = grad.shape[0]
    return _accumulator(grad), _accumulator(grad, batch), grad.new_empty(grad.shape), _accumulator(grad, batch)


# --- derivatives


def _save(ctx, inputs, output):
    grad, ctx.target, ctx.kind, _eps = inputs
    ctx.save_for_backward(grad, output[1])


def _backward(ctx, grad_penalty, grad_norms):
    grad, norms = ctx.saved_tensors
    d_grad = torch.ops.fastgan.grad_norm_penalty_backward(grad_penalty, grad_norms, grad, norms, ctx.target, ctx.kind)
    return d_grad, None, None, None


def _save_for_double_backward(ctx, inputs, output):
    *tensors, ctx.target, ctx.kind = inputs
    ctx.save_for_backward(*tensors)


def _double_backward(ctx, h):
    derivatives = torch.ops.fastgan.grad_norm_penalty_double_backward(h, *ctx.saved_tensors, ctx.target, ctx.kind)
    return *derivatives, None, None


register("grad_norm_penalty", _backward, _save)
register("grad_norm_penalty_backward", _double_backward, _save_for_double_backward)
register_last_order("grad_norm_penalty_double_backward")
