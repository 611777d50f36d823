"""Bias, activation, gain and clamp in one pass, twice differentiable."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F

from fastgan.ops._autograd import register
from fastgan.ops._contract import accumulate_dtype, accumulate_like, check_activation, check_choice, check_parameter
from fastgan.ops._torch_private import save_for_backward, wanted
from fastgan.ops._zeros import with_zeros

ActivationName = Literal[
    "linear", "relu", "leaky_relu", "silu", "gelu", "softplus", "sigmoid", "tanh", "elu"
]  # the rows of the table, as a type checker knows them


@dataclass(frozen=True)
class Activation:
    """A row of the table."""

    code: int  # in the compiled ops: csrc/cpu/bias_act/problem.h, kernels/bias_act.py
    reference: Callable[..., torch.Tensor]  # of (z, alpha), in plain torch
    saves: str  # for the backward, as torch's own function does: "x", "y", or "nothing"; with a clamp always "x"
    curved: bool  # whether the second derivative is not zero


ACTIVATIONS: Mapping[ActivationName, Activation] = {
    "linear": Activation(0, lambda z, alpha: z, saves="nothing", curved=False),
    "relu": Activation(1, lambda z, alpha: F.relu(z), saves="y", curved=False),
    "leaky_relu": Activation(2, F.leaky_relu, saves="x", curved=False),
    "silu": Activation(3, lambda z, alpha: F.silu(z), saves="x", curved=True),
    "gelu": Activation(4, lambda z, alpha: F.gelu(z), saves="x", curved=True),  # by erf, not tanh
    # Without the linear part that F.softplus switches to above its threshold.
    "softplus": Activation(5, lambda z, alpha: -F.logsigmoid(-z), saves="x", curved=True),
    "sigmoid": Activation(6, lambda z, alpha: torch.sigmoid(z), saves="y", curved=True),
    "tanh": Activation(7, lambda z, alpha: torch.tanh(z), saves="y", curved=True),
    "elu": Activation(8, F.elu, saves="x", curved=True),
}
BY_CODE = {activation.code: activation for activation in ACTIVATIONS.values()}


def bias_act(
    x: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    dim: int = 1,
    act: ActivationName = "leaky_relu",
    alpha: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
) -> torch.Tensor:
    """y = clamp(gain * act(x + bias), -clamp, clamp).

    Args:
        x: any shape.
        bias: (x.shape[dim],) or None.
        dim: the dimension of x that the bias lies along.
        act: "linear", "relu", "leaky_relu", "silu", "gelu" (the exact one, by erf), "softplus" (log(1 + e^z)),
            "sigmoid", "tanh" or "elu".
        alpha: slope of leaky_relu below 0; elu's alpha; no meaning for the others.
        gain: factor after the activation.
        clamp: bound of the result's magnitude, positive; None for none. Where it bites, derivatives are 0.

    dtypes: float64, float32, bfloat16, float16, computed in float32 (float64 for float64); the result has the dtype of
    x; the bias may be float32 beside a half-precision x. Memory: contiguous x, and with dim=1 channels_last x, are read
    as they are, others copied; y is laid out like x.
    Devices: CPU, CUDA (Triton); elsewhere, and under forward-mode AD or torch.func, the plain-torch reference runs.
    Derivatives: to second order with respect to x and bias, the bias' gradient in the same pass; a third order raises.
        The second derivative of relu and leaky_relu is zero: the bias gets zeros, and so do the biases of the layers
        before, as in torch. x gets None, so that no pass over zeros follows. For this reason calls without a bias,
        too, do not become torch's own function, which takes less of the host's time on small tensors.
    In-place operations on y: as on the output of torch's own activation. They are right after linear, leaky_relu, silu,
        gelu, softplus and elu, and after any activation with a clamp; after relu, sigmoid and tanh, whose backward
        reads y, torch raises.
    Errors: ValueError or TypeError that names the argument.
    """
    run = _route(x, bias)
    if run is None:
        _check(x, bias, dim, act, alpha, gain, clamp)
        return bias_act_reference(x, bias, dim=dim, act=act, alpha=alpha, gain=gain, clamp=clamp)
    try:
        if bias is None:
            dim = min(1, max(0, x.dim() - 1))  # no meaning; 1 leaves channels_last as it is
        elif dim < 0:
            dim += x.dim()
        bound = math.inf if clamp is None else clamp
        return run(x, accumulate_like(x, bias), dim, ACTIVATIONS[act].code, alpha, gain, bound)
    except Exception:  # the op checks at no cost; here is what is wrong, in words
        _check(x, bias, dim, act, alpha, gain, clamp)
        raise


def bias_act_reference(
    x: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    dim: int = 1,
    act: ActivationName = "leaky_relu",
    alpha: float = 0.2,
    gain: float = 1.0,
    clamp: float | None = None,
) -> torch.Tensor:
    """The same in plain torch, differentiable in every mode and to any order."""
    z = x.to(accumulate_dtype(x))
    if bias is not None:
        z = z + bias.reshape([-1 if d == dim % x.dim() else 1 for d in range(x.dim())])
    y = ACTIVATIONS[act].reference(z, alpha) * gain
    if clamp is not None:
        y = y.clamp(-clamp, clamp)
    return y.to(x.dtype)


def _check(
    x: torch.Tensor, bias: torch.Tensor | None, dim: int, act: str, alpha: float, gain: float, clamp: float | None
) -> None:
    check_activation("x", x)
    check_choice("act", act, ACTIVATIONS)
    if clamp is not None and not clamp > 0:
        raise ValueError(f"clamp must be positive or None, got {clamp}")
    for name, value in (("alpha", alpha), ("gain", gain)):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
    if bias is None:
        return
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"dim must be a dimension of x, which has {x.dim()}; got {dim}")
    check_parameter("bias", bias, x, (x.shape[dim],))


# --- shapes, for torch.compile and opcheck


def _like(want, x, dim):
    dense = x.is_contiguous() or (dim == 1 and x.dim() > 2 and x.movedim(1, -1).is_contiguous())
    return torch.empty_like(x if dense else x.contiguous()) if want else x.new_empty(0)


def _like_bias(want, x, dim):
    return x.new_empty((x.shape[dim],) if want else (0,), dtype=accumulate_dtype(x))


@torch.library.register_fake("fastgan::bias_act")
def _(x, bias, dim, act, alpha, gain, clamp):
    name = next((name for name, activation in ACTIVATIONS.items() if activation.code == act), act)
    _check(x, bias, dim, name, alpha, gain, clamp)
    return _like(True, x, dim)


@torch.library.register_fake("fastgan::bias_act_backward")
def _(grad, saved, bias, dim, act, alpha, gain, clamp, from_output, output_mask):
    return _like(output_mask[0], saved, dim), _like_bias(output_mask[1], saved, dim)


@torch.library.register_fake("fastgan::bias_act_double_backward")
def _(h, h_bias, grad, saved, bias, dim, act, alpha, gain, clamp, from_output, output_mask):
    return (
        _like(output_mask[0], saved, dim),
        _like(output_mask[1], saved, dim),
        _like_bias(output_mask[2], saved, dim),
    )


# --- derivatives. If y is saved, the second derivative arrives at y, and from there at x and bias by the chain rule.


def _save(ctx, inputs, output):
    x, bias, _, act, _, gain, clamp = inputs
    row = BY_CODE[act]
    saves = row.saves if clamp == math.inf and gain else "x"  # the slope follows from y / gain
    ctx.setting, ctx.from_output = inputs[2:], saves != "x"
    if saves == "x":
        save_for_backward(ctx, x, bias)
    elif saves == "y":  # a curved activation's second derivative reaches the bias through y
        save_for_backward(ctx, output, None if row.curved else bias)
    else:
        save_for_backward(ctx, None, None)


def _backward(ctx, grad):
    if grad is None:
        return (None,) * 7
    saved, bias = ctx.saved_tensors
    mask = wanted(ctx, 2)
    kept = grad if saved is None else saved  # of a linear function only the shape is read
    dx, dbias = _first_order(grad, kept, bias, *ctx.setting, ctx.from_output, mask)
    if mask[0] and torch.is_grad_enabled() and saved is not None and not BY_CODE[ctx.setting[1]].curved:
        dx = with_zeros(dx, ctx.next_functions[0][0])
    return dx if mask[0] else None, dbias if mask[1] else None, None, None, None, None, None


def _save_backward(ctx, inputs, output):
    grad, saved, bias, *ctx.setting, ctx.mask = inputs
    save_for_backward(ctx, grad, saved, bias)


def _double_backward(ctx, *cotangents):
    of_dx, of_dbias = ctx.mask
    h, h_bias = cotangents[0] if of_dx else None, cotangents[1] if of_dbias else None
    if h is None and h_bias is None:
        return (None,) * 10
    grad, saved, bias = ctx.saved_tensors
    need_grad, need_saved, need_bias = ctx.needs_input_grad[:3]
    if BY_CODE[ctx.setting[1]].curved:
        mask = need_grad, need_saved, need_bias
        d_grad, d_saved, d_bias = _second_order(h, h_bias, grad, saved, bias, *ctx.setting, mask)
        found = d_grad if need_grad else None, d_saved if need_saved else None, d_bias if need_bias else None
        return *found, *(None,) * 7
    d_grad = None
    if need_grad and h_bias is None and not torch.is_grad_enabled():  # the slope is constant: the first order again
        d_grad = _first_order(h, saved, bias, *ctx.setting, (True, False))[0]
    elif need_grad:
        d_grad = _second_order(h, h_bias, grad, saved, bias, *ctx.setting, (True, False, False))[0]
    return d_grad, None, torch.zeros_like(bias) if need_bias else None, *(None,) * 7


_route, _first_order, _second_order = register(
    "bias_act", (_save, _backward), (_save_backward, _double_backward), triton=True
)
