"""Normalisation to zero mean and unit variance, twice differentiable: group, layer, instance and batch statistics.

One op serves all four. For a statistics row of n elements, xh = (x - mean) / sqrt(var + eps) with the row's own mean
and (biased) variance, y = weight * xh + bias. First and second derivatives are closed forms of a few means over the
row, so that forward, backward and double backward are each one reduction and one elementwise pass.

Common to the four functions:
    dtypes: float64, float32, bfloat16, float16; statistics and sums in float32 (float64 for float64). The result has
        the dtype of x; weight and bias may be float32 beside a half-precision x (as under autocast).
    memory: contiguous and channels_last activations are read as they are, others copied; the result is laid out alike.
    Devices: CPU, CUDA (Triton); elsewhere, and under forward-mode AD or torch.func, the plain-torch reference runs.
    Derivatives: to second order with respect to x, weight and bias; a third order raises.
    Errors: ValueError or TypeError that names the argument.
Papers: Ba et al. 2016 (layer), Wu and He 2018 (group), Ulyanov et al. 2016 (instance), Ioffe and Szegedy 2015 (batch).
"""

import math
from collections.abc import Sequence

import torch

from fastgan.ops._autograd import only_wanted, register
from fastgan.ops._contract import (
    accumulate_dtype,
    accumulate_like,
    check_activation,
    check_at_least_zero,
    check_parameter,
    check_tensor,
)
from fastgan.ops._torch_private import save_for_backward, wanted

BATCH = 0  # num_groups of the op that stands for batch statistics: a row is a channel of the whole batch


def group_norm(
    x: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """y = weight * (x - mean) / sqrt(var + eps) + bias over each sample's num_groups groups of channels.

    x: (N, C, ...). weight, bias: (C,) or, for conditional normalisation, (N, C); None stands for 1 and 0.
    Arguments as torch.nn.functional.group_norm; the rest of the contract is the module's.
    """
    if not (isinstance(num_groups, int) and num_groups > 0):  # 0 is the op's sign for the batch
        raise ValueError(f"num_groups must be a positive integer that divides the channels of x, got {num_groups!r}")
    return _normalize(x, num_groups, weight, bias, eps)[0]


def layer_norm(
    x: torch.Tensor,
    normalized_shape: int | Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> torch.Tensor:
    """y = weight * (x - mean) / sqrt(var + eps) + bias over the last len(normalized_shape) dimensions.

    x: (..., *normalized_shape). weight, bias: normalized_shape.
    Arguments as torch.nn.functional.layer_norm; the rest of the contract is the module's.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    check_tensor("x", x)
    if not shape or tuple(x.shape[x.dim() - len(shape) :]) != shape:
        raise ValueError(f"x must end in normalized_shape {shape}, got shape {tuple(x.shape)}")
    for name, t in (("weight", weight), ("bias", bias)):
        if isinstance(t, torch.Tensor) and tuple(t.shape) != shape:
            raise ValueError(f"{name} must have normalized_shape {shape}, got {tuple(t.shape)}")
    rows = (
        x.reshape(-1, math.prod(shape)) if x.numel() else x.reshape(math.prod(x.shape[: -len(shape)]), math.prod(shape))
    )
    flat_weight, flat_bias = (None if t is None else t.reshape(-1) for t in (weight, bias))
    return _normalize(rows, 1, flat_weight, flat_bias, eps)[0].reshape(x.shape)


def instance_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None = None,
    running_var: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """y = weight * (x - mean) / sqrt(var + eps) + bias over each channel of each sample.

    x: (N, C, ...) with at least one spatial dimension. weight, bias: (C,) or (N, C). running_mean, running_var: (C,),
    moved towards the batch's average statistics (variance unbiased) where given; without use_input_stats they are used
    instead.
    Arguments as torch.nn.functional.instance_norm; the rest of the contract is the module's.
    """
    _check_running(x, running_mean, running_var, required=not use_input_stats)
    if not use_input_stats:
        _check(x, x.shape[1], weight, bias, eps)
        return _with_given_statistics(x, running_mean, running_var, weight, bias, eps)
    count = math.prod(x.shape[2:])
    if count == 1:
        raise ValueError(f"x must have more than one spatial element per channel, got shape {tuple(x.shape)}")
    y, mean, var = _normalize(x, x.shape[1], weight, bias, eps)
    if running_mean is not None and x.numel():
        _update_running(running_mean, running_var, mean.mean(0), var.mean(0), count, momentum)
    return y


def batch_norm(
    x: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """y = weight * (x - mean) / sqrt(var + eps) + bias over each channel of the whole batch.

    x: (N, C, ...). weight, bias: (C,) or, for conditional normalisation, (N, C). running_mean, running_var: (C,) or
    None, moved by momentum towards the batch's statistics (variance unbiased) in training; without training they are
    used instead, and y is an affine map of x. Batch statistics couple the samples: a per-sample gradient penalty does
    not suit them.
    Arguments as torch.nn.functional.batch_norm; the rest of the contract is the module's.
    """
    _check_running(x, running_mean, running_var, required=not training)
    if not training:
        _check(x, x.shape[1], weight, bias, eps)
        return _with_given_statistics(x, running_mean, running_var, weight, bias, eps)
    count = x.numel() // x.shape[1]
    if count <= 1:
        raise ValueError(f"x must have more than one value per channel in training, got shape {tuple(x.shape)}")
    y, mean, var = _normalize(x, BATCH, weight, bias, eps)
    if running_mean is not None:
        _update_running(running_mean, running_var, mean, var, count, momentum)
    return y


def normalize_reference(
    x: torch.Tensor,
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(y, mean, var) of the op in plain torch, differentiable in every mode and to any order; num_groups 0: batch."""
    accumulated = x.to(accumulate_dtype(x))
    if num_groups == BATCH:
        rows, axes = accumulated, [d for d in range(x.dim()) if d != 1]
    else:
        rows, axes = accumulated.reshape(x.shape[0], num_groups, -1), [2]
    mean = rows.mean(axes, keepdim=True)
    centred = rows - mean
    var = centred.square().mean(axes, keepdim=True)
    y = (centred / torch.sqrt(var + eps)).reshape(x.shape)
    y = _affine(y, weight, bias).to(x.dtype)
    shape = (x.shape[1],) if num_groups == BATCH else (x.shape[0], num_groups)
    return y, mean.detach().reshape(shape), var.detach().reshape(shape)


def _normalize(
    x: torch.Tensor, num_groups: int, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    run = _route(x, weight, bias)
    if run is None:
        _check(x, num_groups, weight, bias, eps)
        return normalize_reference(x, num_groups, weight, bias, eps)
    try:
        check_at_least_zero("eps", eps)
        if weight is None and bias is not None:
            weight = torch.ones_like(bias)
        return run(x, accumulate_like(x, weight), accumulate_like(x, bias), num_groups, eps)
    except Exception:  # the op checks at no cost; here is what is wrong, in words
        _check(x, num_groups, weight, bias, eps)
        raise


def _affine(x, weight, bias):
    def over_channels(t):
        return t.reshape(-1, x.shape[1], *[1] * (x.dim() - 2))

    if weight is not None:
        x = x * over_channels(weight)
    return x if bias is None else x + over_channels(bias)


def _with_given_statistics(
    x: torch.Tensor,
    mean: torch.Tensor | None,
    var: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> torch.Tensor:
    # An affine map of x, which torch differentiates to any order. Statistics in float32 beside half-precision x.
    if weight is not None and weight.dim() == 2:
        y = torch.nn.functional.batch_norm(x, mean, var, None, None, False, 0.0, eps)
        return _affine(y, weight, bias).to(x.dtype)
    if weight is not None and mean is not None and weight.dtype != mean.dtype:
        weight, bias = weight.to(mean.dtype), None if bias is None else bias.to(mean.dtype)
    return torch.nn.functional.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)


def _update_running(running_mean, running_var, mean, var, count, momentum):
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)


def _check(x, num_groups, weight, bias, eps):
    check_activation("x", x)
    if x.dim() < 2 or x.shape[1] == 0:
        raise ValueError(f"x must be (N, C, ...) with at least one channel, got shape {tuple(x.shape)}")
    if num_groups != BATCH and x.shape[1] % num_groups:
        raise ValueError(f"num_groups must divide the {x.shape[1]} channels of x, got {num_groups!r}")
    check_at_least_zero("eps", eps)
    for name, t in (("weight", weight), ("bias", bias)):
        check_parameter(name, t, x, (x.shape[1],), tuple(x.shape[:2]))
    if weight is not None and bias is not None and weight.dim() != bias.dim():
        raise ValueError(f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} must have the same shape")


def _check_running(x, mean, var, required):
    check_activation("x", x)
    if x.dim() < 2 or x.shape[1] == 0:
        raise ValueError(f"x must be (N, C, ...) with at least one channel, got shape {tuple(x.shape)}")
    if (mean is None) != (var is None):
        raise ValueError("running_mean and running_var must be given together")
    if mean is None and required:
        raise ValueError("running_mean and running_var must be given when the input's statistics are not used")
    for name, t in (("running_mean", mean), ("running_var", var)):
        if t is not None and tuple(t.shape) != (x.shape[1],):
            raise ValueError(f"{name} must have shape ({x.shape[1]},), got {tuple(t.shape)}")


# --- shapes, for torch.compile and opcheck


def _laid_out(x):
    """x as the op reads it: dense, with channels outside or inside the spatial dimensions."""
    if x.is_contiguous() or x.movedim(1, -1).is_contiguous():
        return x
    return x.contiguous()


def _like(want, x):
    return torch.empty_like(_laid_out(x)) if want else x.new_empty(0)


def _like_weight(want, weight, mean):
    return torch.empty_like(weight, memory_format=torch.contiguous_format) if want else mean.new_empty(0)


@torch.library.register_fake("fastgan::normalize")
def _(x, weight, bias, num_groups, eps):
    _check(x, num_groups, weight, bias, eps)
    shape = (x.shape[1],) if num_groups == BATCH else (x.shape[0], num_groups)
    return _like(True, x), *(x.new_empty(shape, dtype=accumulate_dtype(x)) for _ in range(2))


@torch.library.register_fake("fastgan::normalize_backward")
def _(grad, x, weight, mean, var, num_groups, eps, output_mask):
    return _like(output_mask[0], x), *(_like_weight(want, weight, mean) for want in output_mask[1:])


@torch.library.register_fake("fastgan::normalize_double_backward")
def _(h, h_weight, h_bias, grad, x, weight, mean, var, num_groups, eps, output_mask):
    return _like(output_mask[0], x), _like(output_mask[1], x), _like_weight(output_mask[2], weight, mean)


# --- derivatives. mean and var are outputs for the backward; what depends on them is in its formula.


def _save(ctx, inputs, output):
    x, weight, _bias, ctx.num_groups, ctx.eps = inputs
    _, mean, var = output
    ctx.mark_non_differentiable(mean, var)
    save_for_backward(ctx, x, weight, mean, var)


def _backward(ctx, grad, _grad_mean, _grad_var):
    if grad is None:
        return (None,) * 5
    mask = wanted(ctx, 3)
    grads = _first_order(grad, *ctx.saved_tensors, ctx.num_groups, ctx.eps, mask)
    return *only_wanted(grads, mask), None, None


def _save_backward(ctx, inputs, output):
    *tensors, ctx.num_groups, ctx.eps, ctx.mask = inputs
    if any(t.requires_grad for t in tensors[-2:]):
        raise NotImplementedError("mean and var are not free variables of fastgan::normalize_backward: detach them")
    save_for_backward(ctx, *tensors)


def _double_backward(ctx, *cotangents):
    h, h_weight, h_bias = only_wanted(cotangents, ctx.mask)
    if h is None and h_weight is None and h_bias is None:
        return (None,) * 8
    need_grad, need_x, need_weight = ctx.needs_input_grad[:3]
    mask = need_grad, need_x and (h is not None or h_weight is not None), need_weight and h is not None
    grads = _second_order(h, h_weight, h_bias, *ctx.saved_tensors, ctx.num_groups, ctx.eps, mask)
    return (*only_wanted(grads, mask), *(None,) * 5)


_route, _first_order, _second_order = register(
    "normalize", (_save, _backward), (_save_backward, _double_backward), triton=True
)
