"""Bias, activation, gain and clamp in one pass, twice differentiable."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fastgan.ops._autograd import needs_reference, register, register_last_order
from fastgan.ops._triton import register_triton, triton_installed


@dataclass(frozen=True)
class Activation:
    """A row of the table: the activation in plain torch, what its backward keeps, whether it is curved."""

    reference: callable  # of (z, alpha)
    saves: (
        str  # "y": the derivative follows from the output, which the next layer keeps anyway; "x": it needs the input
    )
    second_derivative: bool


# The compiled op knows them by their place in this table (csrc/cpu/bias_act.cpp, kernels/bias_act.py).
ACTIVATIONS = {
    "linear": Activation(lambda z, alpha: z, saves="y", second_derivative=False),
    "relu": Activation(lambda z, alpha: F.relu(z), saves="y", second_derivative=False),
    "leaky_relu": Activation(F.leaky_relu, saves="y", second_derivative=False),
    "silu": Activation(lambda z, alpha: F.silu(z), saves="x", second_derivative=True),
    "gelu": Activation(lambda z, alpha: F.gelu(z), saves="x", second_derivative=True),  # by erf, not tanh
    # Without the linear part that F.softplus switches to above its threshold.
    "softplus": Activation(lambda z, alpha: -F.logsigmoid(-z), saves="x", second_derivative=True),
    "sigmoid": Activation(lambda z, alpha: torch.sigmoid(z), saves="y", second_derivative=True),
    "tanh": Activation(lambda z, alpha: torch.tanh(z), saves="y", second_derivative=True),
    "elu": Activation(F.elu, saves="y", second_derivative=True),
}
CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
TABLE = list(ACTIVATIONS.values())


def bias_act(x, bias=None, *, dim=1, act="leaky_relu", alpha=0.2, gain=1.0, clamp=None):
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
    Errors: ValueError or TypeError that names the argument.
    """
    dim = _check(x, bias, dim, act, alpha, gain, clamp)
    # The op's bias is in the dtype that it computes in; a half-precision bias' gradient is rounded once, by this cast.
    bias = None if bias is None else bias.to(_computing_dtype(x))
    if needs_reference(x, bias, cuda_kernels=triton_installed):
        return bias_act_reference(x, bias, dim=dim, act=act, alpha=alpha, gain=gain, clamp=clamp)
    bound = math.inf if clamp is None else clamp
    return torch.ops.fastgan.bias_act(x, bias, dim, CODES[act], alpha, gain, bound)


def bias_act_reference(x, bias=None, *, dim=1, act="leaky_relu", alpha=0.2, gain=1.0, clamp=None):
    """The same in plain torch, differentiable in every mode and to any order."""
    z = x.to(_computing_dtype(x))
    if bias is not None:
        z = z + bias.reshape([-1 if d == dim % x.dim() else 1 for d in range(x.dim())])
    y = ACTIVATIONS[act].reference(z, alpha) * gain
    if clamp is not None:
        y = y.clamp(-clamp, clamp)
    return y.to(x.dtype)


def _computing_dtype(x):
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _saves_output(act, alpha, gain, clamp):
    """Whether act' follows from y = gain * act(z): not where y is clamped or 0, or its sign does not tell z's."""
    tells_sign = alpha > 0 or act not in (CODES["elu"], CODES["leaky_relu"])
    return TABLE[act].saves == "y" and math.isinf(clamp) and gain != 0 and tells_sign


def _check(x, bias, dim, act, alpha, gain, clamp):
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a tensor, got {type(x).__name__}")
    if x.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(f"x must be float64, float32, bfloat16 or float16, got {x.dtype}")
    if act not in ACTIVATIONS:
        raise ValueError(f"act must be one of {', '.join(ACTIVATIONS)}; got {act!r}")
    if clamp is not None and not clamp > 0:
        raise ValueError(f"clamp must be positive or None, got {clamp}")
    for name, value in (("alpha", alpha), ("gain", gain)):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, got {value}")
    if bias is None:
        return min(1, max(0, x.dim() - 1))  # dim has no meaning then; 1 is the one that leaves channels_last as it is
    if not -x.dim() <= dim < x.dim():
        raise ValueError(f"dim must be a dimension of x, which has {x.dim()}; got {dim}")
    if not isinstance(bias, torch.Tensor):
        raise TypeError(f"bias must be a tensor or None, got {type(bias).__name__}")
    if bias.dtype not in (x.dtype, _computing_dtype(x)) or bias.device != x.device:
        raise TypeError(
            f"bias must be {x.dtype} or {_computing_dtype(x)} on {x.device}, got {bias.dtype} on {bias.device}"
        )
    if tuple(bias.shape) != (x.shape[dim],):
        raise ValueError(f"bias must have shape ({x.shape[dim]},) to lie along dim {dim} of x, got {tuple(bias.shape)}")
    return dim % x.dim()


# --- shapes, for torch.compile and opcheck


def _like(x, dim, wanted=True):
    dense = x.is_contiguous() or (dim == 1 and x.dim() > 2 and x.movedim(1, -1).is_contiguous())
    return torch.empty_like(x if dense else x.contiguous()) if wanted else x.new_empty(0)


def _like_bias(x, dim, wanted):
    return x.new_empty((x.shape[dim],) if wanted else (0,), dtype=_computing_dtype(x))


@torch.library.register_fake("fastgan::bias_act")
def _(x, bias, dim, act, alpha, gain, clamp):
    return _like(x, dim)


@torch.library.register_fake("fastgan::bias_act_backward")
def _(grad, saved, bias, dim, act, alpha, gain, clamp, from_output, need_x, need_bias):
    return _like(saved, dim, need_x), _like_bias(saved, dim, need_bias)


@torch.library.register_fake("fastgan::bias_act_double_backward")
def _(
    h, h_bias, grad, saved, bias, dim, act, alpha, gain, clamp, from_output, need_grad, need_saved, need_bias
):  # fmt: skip
    return _like(saved, dim, need_grad), _like(saved, dim, need_saved), _like_bias(saved, dim, need_bias)


# --- derivatives. Where y is saved, the second derivative arrives at y, and from there at x and bias by the chain rule.


def _save_forward(ctx, inputs, output):
    x, bias, *ctx.setting = inputs
    _, act, alpha, gain, clamp = ctx.setting
    ctx.from_output = _saves_output(act, alpha, gain, clamp)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*((output, None) if ctx.from_output else (x, bias)))


def _backward(ctx, grad):
    if grad is None:
        return (None,) * 7
    saved, bias = ctx.saved_tensors
    need_x, need_bias = ctx.needs_input_grad[:2]
    grad_x, grad_bias = torch.ops.fastgan.bias_act_backward(
        grad, saved, bias, *ctx.setting, ctx.from_output, need_x, need_bias
    )
    return grad_x if need_x else None, grad_bias if need_bias else None, *[None] * 5


def _save_backward(ctx, inputs, output):
    grad, saved, bias, *ctx.setting, ctx.from_output, ctx.need_x, ctx.need_bias = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad, saved, bias)


def _double_backward(ctx, h, h_bias):
    h = h if ctx.need_x else None  # an output that was not asked for has no elements
    h_bias = h_bias if ctx.need_bias else None
    if h is None and h_bias is None:
        return (None,) * 11
    grad, saved, bias = ctx.saved_tensors
    curved = TABLE[ctx.setting[1]].second_derivative
    need_grad, need_saved, need_bias = (need and (i == 0 or curved) for i, need in enumerate(ctx.needs_input_grad[:3]))
    d_grad, d_saved, d_bias = torch.ops.fastgan.bias_act_double_backward(
        h, h_bias, grad, saved, bias, *ctx.setting, ctx.from_output, need_grad, need_saved, need_bias
    )
    wanted = (d_grad if need_grad else None, d_saved if need_saved else None, d_bias if need_bias else None)
    return *wanted, *[None] * 8


register("bias_act", _backward, _save_forward)
register("bias_act_backward", _double_backward, _save_backward)
register_last_order("bias_act_double_backward")
register_triton("bias_act")
