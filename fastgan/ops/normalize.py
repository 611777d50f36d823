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

import torch

from fastgan.ops._autograd import needs_reference, register, register_last_order
from fastgan.ops._triton import register_triton, triton_installed

BATCH = 0  # num_groups of the op that stands for batch statistics: a row is a channel of the whole batch


def group_norm(x, num_groups, weight=None, bias=None, eps=1e-5):
    """y = weight * (x - mean) / sqrt(var + eps) + bias over each sample's num_groups groups of channels.

    x: (N, C, ...). weight, bias: (C,) or, for conditional normalisation, (N, C); None stands for 1 and 0.
    Arguments as torch.nn.functional.group_norm; the rest of the contract is the module's.
    """
    _check(x, weight, bias, eps)
    if not (isinstance(num_groups, int) and num_groups > 0 and x.shape[1] % num_groups == 0):
        raise ValueError(f"num_groups must divide the {x.shape[1]} channels of x, got {num_groups!r}")
    return _normalize(x, num_groups, weight, bias, eps)[0]


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """y = weight * (x - mean) / sqrt(var + eps) + bias over the last len(normalized_shape) dimensions.

    x: (..., *normalized_shape). weight, bias: normalized_shape.
    Arguments as torch.nn.functional.layer_norm; the rest of the contract is the module's.
    """
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a tensor, got {type(x).__name__}")
    if not shape or tuple(x.shape[x.dim() - len(shape) :]) != shape:
        raise ValueError(f"x must end in normalized_shape {shape}, got shape {tuple(x.shape)}")
    for name, t in (("weight", weight), ("bias", bias)):
        if isinstance(t, torch.Tensor) and tuple(t.shape) != shape:
            raise ValueError(f"{name} must have normalized_shape {shape}, got {tuple(t.shape)}")
    rows = (
        x.reshape(-1, math.prod(shape)) if x.numel() else x.reshape(math.prod(x.shape[: -len(shape)]), math.prod(shape))
    )
    flat_weight, flat_bias = (None if t is None else t.reshape(-1) for t in (weight, bias))
    _check(rows, flat_weight, flat_bias, eps)
    return _normalize(rows, 1, flat_weight, flat_bias, eps)[0].reshape(x.shape)


def instance_norm(
    x, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1, eps=1e-5
):
    """y = weight * (x - mean) / sqrt(var + eps) + bias over each channel of each sample.

    x: (N, C, ...) with at least one spatial dimension. weight, bias: (C,) or (N, C). running_mean, running_var: (C,),
    moved towards the batch's average statistics (variance unbiased) where given; without use_input_stats they are used
    instead.
    Arguments as torch.nn.functional.instance_norm; the rest of the contract is the module's.
    """
    _check(x, weight, bias, eps)
    _check_running(x, running_mean, running_var, required=not use_input_stats)
    if not use_input_stats:
        return _with_given_statistics(x, running_mean, running_var, weight, bias, eps)
    count = math.prod(x.shape[2:])
    if count == 1:
        raise ValueError(f"x must have more than one spatial element per channel, got shape {tuple(x.shape)}")
    y, mean, var = _normalize(x, x.shape[1], weight, bias, eps)
    if running_mean is not None and x.numel():
        _update_running(running_mean, running_var, mean.mean(0), var.mean(0), count, momentum)
    return y


def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """y = weight * (x - mean) / sqrt(var + eps) + bias over each channel of the whole batch.

    x: (N, C, ...). weight, bias: (C,) or, for conditional normalisation, (N, C). running_mean, running_var: (C,) or
    None, moved by momentum towards the batch's statistics (variance unbiased) in training; without training they are
    used instead, and y is an affine map of x. Batch statistics couple the samples: a per-sample gradient penalty does
    not suit them.
    Arguments as torch.nn.functional.batch_norm; the rest of the contract is the module's.
    """
    _check(x, weight, bias, eps)
    _check_running(x, running_mean, running_var, required=not training)
    if not training:
        return _with_given_statistics(x, running_mean, running_var, weight, bias, eps)
    count = x.numel() // x.shape[1]
    if count <= 1:
        raise ValueError(f"x must have more than one value per channel in training, got shape {tuple(x.shape)}")
    y, mean, var = _normalize(x, BATCH, weight, bias, eps)
    if running_mean is not None:
        _update_running(running_mean, running_var, mean, var, count, momentum)
    return y


def normalize_reference(x, num_groups, weight=None, bias=None, eps=1e-5):
    """(y, mean, var) of the op in plain torch, differentiable in every mode and to any order; num_groups 0: batch."""
    accumulated = x.to(_statistics_dtype(x))
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


def _normalize(x, num_groups, weight, bias, eps):
    if weight is None and bias is not None:
        weight = torch.ones_like(bias)
    # The op's weights are in the statistics' dtype; a half-precision weight's gradient is rounded once, by this cast.
    weight, bias = (None if t is None else t.to(_statistics_dtype(x)) for t in (weight, bias))
    if needs_reference(x, weight, bias, cuda_kernels=triton_installed):
        return normalize_reference(x, num_groups, weight, bias, eps)
    return torch.ops.fastgan.normalize(x, weight, bias, num_groups, eps)


def _affine(x, weight, bias):
    def over_channels(t):
        return t.reshape(-1, x.shape[1], *[1] * (x.dim() - 2))

    if weight is not None:
        x = x * over_channels(weight)
    return x if bias is None else x + over_channels(bias)


def _with_given_statistics(x, mean, var, weight, bias, eps):
    # An affine map of x, which torch differentiates to any order. Statistics in float32 beside half-precision x.
    if weight is not None and weight.dim() == 2:
        y = torch.nn.functional.batch_norm(x, mean, var, None, None, False, 0.0, eps)
        return _affine(y, weight, bias).to(x.dtype)
    if weight is not None and weight.dtype != mean.dtype:
        weight, bias = weight.to(mean.dtype), None if bias is None else bias.to(mean.dtype)
    return torch.nn.functional.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)


def _update_running(running_mean, running_var, mean, var, count, momentum):
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)


def _statistics_dtype(x):
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _check(x, weight, bias, eps):
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a tensor, got {type(x).__name__}")
    if x.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise TypeError(f"x must be float64, float32, bfloat16 or float16, got {x.dtype}")
    if x.dim() < 2 or x.shape[1] == 0:
        raise ValueError(f"x must be (N, C, ...) with at least one channel, got shape {tuple(x.shape)}")
    if not eps >= 0:
        raise ValueError(f"eps must be at least 0, got {eps}")
    for name, t in (("weight", weight), ("bias", bias)):
        if t is None:
            continue
        if not isinstance(t, torch.Tensor):
            raise TypeError(f"{name} must be a tensor or None, got {type(t).__name__}")
        if t.dtype not in (x.dtype, _statistics_dtype(x)) or t.device != x.device:
            raise TypeError(
                f"{name} must be {x.dtype} or {_statistics_dtype(x)} on {x.device}, got {t.dtype} on {t.device}"
            )
        if tuple(t.shape) not in ((x.shape[1],), tuple(x.shape[:2])):
            raise ValueError(
                f"{name} must have shape ({x.shape[1]},) or {tuple(x.shape[:2])} to suit x, got {tuple(t.shape)}"
            )
    if weight is not None and bias is not None and weight.dim() != bias.dim():
        raise ValueError(f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} must have the same shape")


def _check_running(x, mean, var, required):
    if (mean is None) != (var is None):
        raise ValueError("running_mean and running_var must be given together")
    if mean is None and required:
        raise ValueError("running_mean and running_var must be given where the input's statistics are not used")
    for name, t in (("running_mean", mean), ("running_var", var)):
        if t is not None and tuple(t.shape) != (x.shape[1],):
            raise ValueError(f"{name} must have shape ({x.shape[1]},), got {tuple(t.shape)}")


# --- shapes, for torch.compile and opcheck


def _laid_out(x):
    """x as the op reads it: dense, with channels outside or inside the spatial dimensions."""
    if x.is_contiguous() or x.movedim(1, -1).is_contiguous():
        return x
    return x.contiguous()


def _like(x, wanted=True):
    return torch.empty_like(_laid_out(x)) if wanted else x.new_empty(0)


def _like_weight(weight, mean, wanted):
    return torch.empty_like(weight, memory_format=torch.contiguous_format) if wanted else mean.new_empty(0)


@torch.library.register_fake("fastgan::normalize")
def _(x, weight, bias, num_groups, eps):
    shape = (x.shape[1],) if num_groups == BATCH else (x.shape[0], num_groups)
    return _like(x), *(x.new_empty(shape, dtype=_statistics_dtype(x)) for _ in range(2))


@torch.library.register_fake("fastgan::normalize_backward")
def _(grad, x, weight, mean, var, num_groups, eps, need_x, need_affine):
    return _like(x, need_x), *(_like_weight(weight, mean, need_affine) for _ in range(2))


@torch.library.register_fake("fastgan::normalize_double_backward")
def _(h, h_weight, h_bias, grad, x, weight, mean, var, num_groups, eps, need_grad, need_x, need_weight):
    return _like(x, need_grad), _like(x, need_x), _like_weight(weight, mean, need_weight)


# --- derivatives (mean and var are outputs for the backward's sake; what they depend on is in its formula)


def _save_forward(ctx, inputs, output):
    x, weight, _bias, ctx.num_groups, ctx.eps = inputs
    _, mean, var = output
    ctx.mark_non_differentiable(mean, var)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, weight, mean, var)


def _backward(ctx, grad, _grad_mean, _grad_var):
    if grad is None:
        return (None,) * 5
    x, weight, mean, var = ctx.saved_tensors
    need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
    grad_x, grad_weight, grad_bias = torch.ops.fastgan.normalize_backward(
        grad, x, weight, mean, var, ctx.num_groups, ctx.eps, need_x, need_weight or need_bias
    )
    return (
        grad_x if need_x else None,
        grad_weight if need_weight else None,
        grad_bias if need_bias else None,
        None,
        None,
    )


def _save_backward(ctx, inputs, output):
    grad, x, weight, mean, var, ctx.num_groups, ctx.eps, ctx.need_x, ctx.need_affine = inputs
    if mean.requires_grad or var.requires_grad:
        raise NotImplementedError("mean and var are no free variables of fastgan::normalize_backward: detach them")
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(grad, x, weight, mean, var)


def _double_backward(ctx, h, h_weight, h_bias):
    h = h if ctx.need_x else None  # an output that was not asked for has no elements
    h_weight, h_bias = (h_weight, h_bias) if ctx.need_affine else (None, None)
    if h is None and h_weight is None and h_bias is None:
        return (None,) * 9
    grad, x, weight, mean, var = ctx.saved_tensors
    need_grad, need_x, need_weight = ctx.needs_input_grad[:3]
    need_x, need_weight = need_x and (h is not None or h_weight is not None), need_weight and h is not None
    d_grad, d_x, d_weight = torch.ops.fastgan.normalize_double_backward(
        h, h_weight, h_bias, grad, x, weight, mean, var, ctx.num_groups, ctx.eps, need_grad, need_x, need_weight
    )
    wanted = (d_grad if need_grad else None, d_x if need_x else None, d_weight if need_weight else None)
    return *wanted, *[None] * 6


register("normalize", _backward, _save_forward)
register("normalize_backward", _double_backward, _save_backward)
register_last_order("normalize_double_backward")
register_triton("normalize")
