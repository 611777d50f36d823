"""The gradient penalty's arithmetic, one pass over the gradient each way (Gulrajani et al., 2017, Algorithm 1)."""

from collections.abc import Mapping
from typing import Literal, overload

import torch

from fastgan.ops._autograd import only_wanted, register
from fastgan.ops._contract import accumulate_dtype, check_activation, check_at_least_zero, check_choice, empty_output
from fastgan.ops._torch_private import save_for_backward

Kind = Literal["two-sided", "one-sided", "squared"]
KINDS: Mapping[Kind, int] = {"two-sided": 0, "one-sided": 1, "squared": 2}  # and their codes in the compiled ops


@overload
def grad_norm_penalty(
    grad: torch.Tensor,
    *,
    target: float = 1.0,
    kind: Kind = "two-sided",
    eps: float = 0.0,
    return_norms: Literal[False] = False,
) -> torch.Tensor: ...
@overload
def grad_norm_penalty(
    grad: torch.Tensor, *, target: float = 1.0, kind: Kind = "two-sided", eps: float = 0.0, return_norms: Literal[True]
) -> tuple[torch.Tensor, torch.Tensor]: ...
def grad_norm_penalty(
    grad: torch.Tensor, *, target: float = 1.0, kind: Kind = "two-sided", eps: float = 0.0, return_norms: bool = False
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """mean_i f(n_i) with n_i = sqrt(|grad_i|^2 + eps), the norm of sample i over all its elements.

    f(n) is (n - target)^2 for "two-sided", relu(n - target)^2 for "one-sided" (both Gulrajani et al., 2017, section 4),
    n^2 for "squared" (Mescheder et al., 2018, equation 9, without its gamma / 2).

    Args:
        grad: (B, ...), the critic's gradient with respect to its input, any memory format.
        target: the norm that costs nothing; "squared" ignores it.
        eps: added under the root, not for "squared". Zero is safe: where |grad_i| = 0, the derivative is 0, not NaN.
        return_norms: also return the norms (B,), differentiable.

    Returns: the penalty, 0-d; float32 for half precision, as are the norms.

    dtypes: float64, float32, bfloat16, float16; sums accumulate in float32 within blocks and, on the CPU, in float64
    across them (float64 throughout for float64). Each pass reads the gradient once.
    Devices: CPU, CUDA; elsewhere, and under forward-mode AD or torch.func, the plain-torch reference runs.
    Derivatives: to second order with respect to grad; a third order raises.
    Errors: ValueError or TypeError that names the argument.
    """
    run = _route(grad)
    try:
        # Of one element a sample, both terms of the second derivative cancel: the reference adds them in float32.
        if run is None or grad.numel() <= grad.shape[0]:
            _check(grad, kind, eps)
            penalty, norms = grad_norm_penalty_reference(grad, target=target, kind=kind, eps=eps)
        else:
            penalty, norms = run(_packed(grad), target, KINDS[kind], 0.0 if kind == "squared" else eps)
    except Exception:  # the op checks at no cost; here is what is wrong, in words
        _check(grad, kind, eps)
        raise
    return (penalty, norms) if return_norms else penalty


def grad_norm_penalty_reference(
    grad: torch.Tensor, *, target: float = 1.0, kind: Kind = "two-sided", eps: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same in plain torch, differentiable in every mode and to any order: (penalty, norms)."""
    squares = grad.to(accumulate_dtype(grad)).square()
    squares = squares.sum(list(range(1, grad.dim()))) if grad.dim() > 1 else squares
    squares = squares if kind == "squared" else squares + eps
    zero = squares == 0
    norms = torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())  # sqrt'(0) is infinite
    if kind == "squared":
        return squares.mean(), norms
    over = norms - target
    return (over.relu() if kind == "one-sided" else over).square().mean(), norms


def _packed(grad):
    """(B, ...) contiguous, without a copy if grad's memory is dense: the norm does not depend on the order."""
    order = sorted(range(1, grad.dim()), key=grad.stride, reverse=True)
    return grad.permute(0, *order).contiguous()


def _check(grad, kind, eps):
    check_activation("grad", grad)
    if grad.dim() < 1 or grad.shape[0] == 0:
        raise ValueError(f"grad must have a non-empty batch dimension (B, ...), got shape {tuple(grad.shape)}")
    check_choice("kind", kind, KINDS)
    check_at_least_zero("eps", eps)


# --- shapes, for torch.compile and opcheck


def _accumulator(want: bool, grad: torch.Tensor, *shape: int) -> torch.Tensor:
    return empty_output(want, grad, shape, accumulate_dtype(grad))


@torch.library.register_fake("fastgan::grad_norm_penalty")
def _(grad, target, kind, eps):
    _check(grad, next((name for name, code in KINDS.items() if code == kind), kind), eps)
    return _accumulator(True, grad), _accumulator(True, grad, grad.shape[0])


@torch.library.register_fake("fastgan::grad_norm_penalty_backward")
def _(grad_penalty, grad_norms, grad, norms, target, kind, output_mask):
    return empty_output(output_mask[0], grad)


@torch.library.register_fake("fastgan::grad_norm_penalty_double_backward")
def _(h, grad_penalty, grad_norms, grad, norms, target, kind, output_mask):
    of_penalty, of_norms, of_grad, of_saved_norms = output_mask
    return (
        _accumulator(of_penalty, grad),
        _accumulator(of_norms, grad, grad.shape[0]),
        empty_output(of_grad, grad),
        _accumulator(of_saved_norms, grad, grad.shape[0]),
    )


# --- derivatives


def _save(ctx, inputs, output):
    grad, ctx.target, ctx.kind, _eps = inputs
    ctx.save_for_backward(grad, output[1])


def _backward(ctx, grad_penalty, grad_norms):
    d_grad = _first_order(grad_penalty, grad_norms, *ctx.saved_tensors, ctx.target, ctx.kind, [True])
    return d_grad, None, None, None


def _save_backward(ctx, inputs, output):
    *tensors, ctx.target, ctx.kind, ctx.mask = inputs
    save_for_backward(ctx, *tensors)


def _double_backward(ctx, *cotangents):
    (h,) = only_wanted(cotangents, ctx.mask)
    if h is None:
        return (None,) * 7
    mask = ctx.needs_input_grad[:4]
    grads = _second_order(h, *ctx.saved_tensors, ctx.target, ctx.kind, mask)
    return *only_wanted(grads, mask), None, None, None


_route, _first_order, _second_order = register(
    "grad_norm_penalty", (_save, _backward), (_save_backward, _double_backward)
)
