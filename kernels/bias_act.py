"""Bias, activation, gain and clamp on the GPU, in the formulas of csrc/cpu/bias_act/kernels.h.

Forward, backward and double backward pass over the activation once each; the bias' gradient is summed on the way, a row
of sums for each piece of the positions, and a second small kernel adds the rows.
"""

import functools
import math

import torch
import triton
import triton.language as tl
from fastgan.kernels.channels import (
    INSIDE,
    PLANES,
    SAMPLES,
    accumulator,
    add_rows,
    cut,
    laid_out,
    laid_out_like,
    of_channels,
    offsets,
    rows_of_sums,
    triton_accumulator,
)
from fastgan.kernels.launch import planned

# The codes of fastgan.ops.bias_act.ACTIVATIONS.
LINEAR, RELU, LEAKY_RELU = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
SILU, GELU, SOFTPLUS = tl.constexpr(3), tl.constexpr(4), tl.constexpr(5)
SIGMOID, TANH, ELU = tl.constexpr(6), tl.constexpr(7), tl.constexpr(8)
LAST_CODE = 8
DERIVES_FROM_OUTPUT = (0, 1, 6, 7)  # act'(z) follows from u = act(z)

WARPS = 4
ELEMENTS = {2: 1024, 4: 1024, 8: 256}  # of a tile, by the bytes of an element


@triton.jit
def _expm1_of_nonpositive(z, A: tl.constexpr):
    """e^z - 1: the series near 0, where the difference would cancel."""
    TERMS: tl.constexpr = 16 if tl.float64 == A else 9
    small = tl.maximum(z, -0.5)
    series = tl.full(z.shape, 1.0, A)
    for k in tl.static_range(TERMS - 1):
        series = 1.0 + series * small / (TERMS - k)
    return tl.where(z > -0.5, series * small, tl.exp(z) - 1.0)


@triton.jit
def _log1p_of_unit(e, A: tl.constexpr):
    """log(1 + e) for 0 <= e <= 1, as 2 artanh(e / (2 + e))."""
    TERMS: tl.constexpr = 18 if tl.float64 == A else 9
    s = e / (2.0 + e)
    square = s * s
    series = tl.full(e.shape, 1.0 / (2 * TERMS - 1), A)
    for k in tl.static_range(TERMS - 1):
        series = 1.0 / (2 * (TERMS - 2 - k) + 1) + series * square
    return 2.0 * s * series


@triton.jit
def _activation(z, alpha, ACT: tl.constexpr, A: tl.constexpr):
    """act(z), act'(z), act''(z); what the caller does not use costs nothing."""
    one, zero = tl.full(z.shape, 1.0, A), tl.zeros(z.shape, A)
    f, first, second = z, one, zero  # linear
    if ACT == RELU:  # NaN stays NaN
        f, first = tl.where(z < 0.0, 0.0, z), tl.where(z > 0.0, one, 0.0)
    elif ACT == LEAKY_RELU:
        f, first = tl.where(z > 0.0, z, z * alpha), tl.where(z > 0.0, one, alpha)
    elif ACT == SILU or ACT == SOFTPLUS or ACT == SIGMOID:  # noqa: SIM109 (Triton has no `in`)
        e = tl.exp(-tl.abs(z))
        inverse = 1.0 / (1.0 + e)
        s, rest = tl.where(z < 0.0, e * inverse, inverse), tl.where(z < 0.0, inverse, e * inverse)
        if ACT == SILU:
            f, first, second = z * s, s * (1.0 + z * rest), s * rest * (2.0 + z * (rest - s))
        elif ACT == SOFTPLUS:
            f, first, second = tl.where(z < 0.0, 0.0, z) + _log1p_of_unit(e, A), s, s * rest
        else:
            f, first, second = s, s * rest, s * rest * (rest - s)
    elif ACT == GELU:
        phi = 0.3989422804014327 * tl.exp(-0.5 * z * z)
        Phi = 0.5 * (1.0 + tl.erf(z * 0.7071067811865476))
        f, first, second = z * Phi, Phi + z * phi, phi * (2.0 - z * z)
    elif ACT == TANH:
        m = _expm1_of_nonpositive(-2.0 * tl.abs(z), A)
        f = tl.where(z < 0.0, m, -m) / (2.0 + m)
        first = 1.0 - f * f
        second = -2.0 * f * first
    elif ACT == ELU:
        m = _expm1_of_nonpositive(tl.where(z < 0.0, z, 0.0), A)
        f = tl.where(z > 0.0, z, m * alpha)
        first, second = tl.where(z > 0.0, one, (m + 1.0) * alpha), tl.where(z < 0.0, (m + 1.0) * alpha, 0.0)
        f = tl.where(z != z, z, f)
    return f, first, second


@triton.jit
def _activation_from_output(u, ACT: tl.constexpr, A: tl.constexpr):
    """From u = act(z): act'(z), and its derivative with respect to u."""
    one, zero = tl.full(u.shape, 1.0, A), tl.zeros(u.shape, A)
    first, slope = one, zero
    if ACT == RELU:
        first = tl.where(u > 0.0, one, 0.0)
    elif ACT == SIGMOID:
        first, slope = u * (1.0 - u), 1.0 - 2.0 * u
    elif ACT == TANH:
        first, slope = 1.0 - u * u, -2.0 * u
    return first, slope


@triton.jit
def _slope_of(
    saved, bias, alpha, gain, clamp, ACT: tl.constexpr, CLAMPED: tl.constexpr, FROM_OUTPUT: tl.constexpr,
    A: tl.constexpr
):  # fmt: skip
    """gain act'(z), 0 where clamped, and its derivative with respect to what is saved."""
    if FROM_OUTPUT:
        slope, curvature = _activation_from_output(saved / gain, ACT, A)
        slope = slope * gain  # and the curvature's gain cancels that of saved = gain u
    else:
        f, first, second = _activation(saved + bias, alpha, ACT, A)
        slope, curvature = first * gain, second * gain
        if CLAMPED:
            inside = (f * gain <= clamp) & (f * gain >= -clamp)
            slope, curvature = tl.where(inside, slope, 0.0), tl.where(inside, curvature, 0.0)
    return slope, curvature


@triton.jit
def _per_channel(pointer, channel, C, PRESENT: tl.constexpr, A: tl.constexpr):
    """(BLOCK_C, 1), zero where absent."""
    return of_channels(pointer, channel, channel < C, PRESENT, 0.0, A)[:, None]


@triton.jit
def bias_act_forward_kernel(
    x, bias, y, alpha: tl.float64, gain: tl.float64, clamp: tl.float64, C, P, S, pieces, tiles,
    ACT: tl.constexpr, CLAMPED: tl.constexpr, HAS_BIAS: tl.constexpr,
    A: tl.constexpr, LAYOUT: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    piece = (tl.program_id(0) % pieces).to(tl.int64 if WIDE else tl.int32)
    channel = tl.program_id(0) // pieces * BLOCK_C + tl.arange(0, BLOCK_C)
    alpha, gain, clamp = tl.full((1, 1), alpha, A), tl.full((1, 1), gain, A), tl.full((1, 1), clamp, A)
    b = _per_channel(bias, channel, C, HAS_BIAS, A)
    for i in range(tiles):
        position = (piece * tiles + i) * BLOCK_P + tl.arange(0, BLOCK_P)
        mask = (channel < C)[:, None] & (position < P)[None, :]
        at = offsets(channel, position, C, S, LAYOUT, WIDE)
        z = tl.load(x + at, mask=mask, other=0.0).to(A) + b  # (BLOCK_C, BLOCK_P)
        f, _first, _second = _activation(z, alpha, ACT, A)
        f = f * gain
        if CLAMPED:
            f = tl.where(f > clamp, clamp, tl.where(f < -clamp, -clamp, f))
        tl.store(y + at, f.to(y.dtype.element_ty), mask=mask)


@triton.jit
def bias_act_backward_kernel(
    grad, saved, bias, dx, dbias, alpha: tl.float64, gain: tl.float64, clamp: tl.float64, C, P, S, pieces, tiles,
    ACT: tl.constexpr, CLAMPED: tl.constexpr, FROM_OUTPUT: tl.constexpr, HAS_BIAS: tl.constexpr,
    NEED_X: tl.constexpr, NEED_BIAS: tl.constexpr,
    A: tl.constexpr, LAYOUT: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """dx = g slope; dbias (pieces, C): its sums."""
    piece = (tl.program_id(0) % pieces).to(tl.int64 if WIDE else tl.int32)
    channel = tl.program_id(0) // pieces * BLOCK_C + tl.arange(0, BLOCK_C)
    alpha, gain, clamp = tl.full((1, 1), alpha, A), tl.full((1, 1), gain, A), tl.full((1, 1), clamp, A)
    b = _per_channel(bias, channel, C, HAS_BIAS, A)
    sums = tl.zeros((BLOCK_C, BLOCK_P), A)
    for i in range(tiles):
        position = (piece * tiles + i) * BLOCK_P + tl.arange(0, BLOCK_P)
        mask = (channel < C)[:, None] & (position < P)[None, :]
        at = offsets(channel, position, C, S, LAYOUT, WIDE)
        s = tl.load(saved + at, mask=mask, other=0.0).to(A)
        slope, _curvature = _slope_of(s, b, alpha, gain, clamp, ACT, CLAMPED, FROM_OUTPUT, A)
        d = tl.load(grad + at, mask=mask, other=0.0).to(A) * slope
        if NEED_X:
            tl.store(dx + at, d.to(dx.dtype.element_ty), mask=mask)
        if NEED_BIAS:
            sums += tl.where(mask, d, 0.0)
    if NEED_BIAS:
        tl.store(dbias + piece.to(tl.int64) * C + channel, tl.sum(sums, 1), mask=channel < C)


@triton.jit
def bias_act_double_backward_kernel(
    h, h_bias, grad, saved, bias, d_grad, d_saved, d_bias,
    alpha: tl.float64, gain: tl.float64, clamp: tl.float64, C, P, S, pieces, tiles,
    ACT: tl.constexpr, CLAMPED: tl.constexpr, FROM_OUTPUT: tl.constexpr, HAS_BIAS: tl.constexpr,
    HAS_H: tl.constexpr, HAS_H_BIAS: tl.constexpr,
    NEED_GRAD: tl.constexpr, NEED_SAVED: tl.constexpr, NEED_BIAS: tl.constexpr,
    A: tl.constexpr, LAYOUT: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """With H = h + h_bias: d_grad = H slope, d_saved = H g curvature; d_bias (pieces, C): its sums."""
    piece = (tl.program_id(0) % pieces).to(tl.int64 if WIDE else tl.int32)
    channel = tl.program_id(0) // pieces * BLOCK_C + tl.arange(0, BLOCK_C)
    alpha, gain, clamp = tl.full((1, 1), alpha, A), tl.full((1, 1), gain, A), tl.full((1, 1), clamp, A)
    b = _per_channel(bias, channel, C, HAS_BIAS, A)
    hb = _per_channel(h_bias, channel, C, HAS_H_BIAS, A)
    sums = tl.zeros((BLOCK_C, BLOCK_P), A)
    for i in range(tiles):
        position = (piece * tiles + i) * BLOCK_P + tl.arange(0, BLOCK_P)
        mask = (channel < C)[:, None] & (position < P)[None, :]
        at = offsets(channel, position, C, S, LAYOUT, WIDE)
        s = tl.load(saved + at, mask=mask, other=0.0).to(A)
        slope, curvature = _slope_of(s, b, alpha, gain, clamp, ACT, CLAMPED, FROM_OUTPUT, A)
        H = tl.zeros((BLOCK_C, BLOCK_P), A) + hb
        if HAS_H:
            H += tl.load(h + at, mask=mask, other=0.0).to(A)
        if NEED_GRAD:
            tl.store(d_grad + at, (H * slope).to(d_grad.dtype.element_ty), mask=mask)
        if NEED_SAVED or NEED_BIAS:
            d = H * tl.load(grad + at, mask=mask, other=0.0).to(A) * curvature
            if NEED_SAVED:
                tl.store(d_saved + at, d.to(d_saved.dtype.element_ty), mask=mask)
            if NEED_BIAS:
                sums += tl.where(mask, d, 0.0)
    if NEED_BIAS:
        tl.store(d_bias + piece.to(tl.int64) * C + channel, tl.sum(sums, 1), mask=channel < C)


# --- launches


@functools.cache
def _cut_of(shape, dim, inside, itemsize):
    """dim: of the channels, None where there is nothing per channel."""
    size = math.prod(shape)
    how = {"elements": ELEMENTS[itemsize], "wide": size >= 2**31}
    if dim is None or size == 0:
        return cut(1, max(1, size), size, PLANES, **how)
    if inside:
        return cut(shape[dim], size // shape[dim], 1, INSIDE, **how)
    inner, outer = math.prod(shape[dim + 1 :]), math.prod(shape[:dim])
    layout = INSIDE if inner == 1 else PLANES if outer == 1 else SAMPLES
    return cut(shape[dim], outer * inner, inner, layout, **how)


class _Problem:
    """What the launches of one call have in common: x as (outer, C, inner), the bias along C."""

    def __init__(self, steps, x, dim, act, alpha, gain, clamp, per_channel, from_output=False):
        if not 0 <= dim < max(1, x.dim()):
            raise ValueError(f"dim must be a dimension of x, which has {x.dim()}; got {dim}")
        if x.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            raise TypeError(f"x must be float64, float32, bfloat16 or float16, got {x.dtype}")
        if not 0 <= act <= LAST_CODE:
            raise ValueError(f"act must be a code from 0 to {LAST_CODE}, got {act}")
        if not (math.isfinite(alpha) and math.isfinite(gain) and clamp > 0):
            raise ValueError(f"alpha, gain must be finite and clamp positive, got {alpha}, {gain}, {clamp}")
        if from_output and (act not in DERIVES_FROM_OUTPUT or gain == 0 or math.isfinite(clamp)):
            raise ValueError("from_output must be false for this activation, for gain 0 and with a clamp")
        self.steps, self.x, self.dim = steps, laid_out(steps, x, dim), dim
        self.channels = x.shape[dim] if x.dim() else 1
        inside = not self.x.is_contiguous()  # then laid_out has left its channels inside
        self.cut = _cut_of(tuple(x.shape), dim if per_channel else None, inside, x.element_size())
        self.common = {
            "alpha": alpha,
            "gain": gain,
            "clamp": clamp if math.isfinite(clamp) else 0.0,
            "ACT": act,
            "CLAMPED": math.isfinite(clamp),
            "A": triton_accumulator(x.dtype),
        }

    def per_channel(self, name, t):
        """A kernel argument of shape (C,), or None."""
        if t is None:
            return None
        if t.shape != (self.channels,) or t.dtype != accumulator(self.x.dtype) or t.device != self.x.device:
            raise ValueError(f"{name} must be ({self.channels},) {accumulator(self.x.dtype)} on {self.x.device}")
        return self.steps.contiguous(t)

    def like(self, wanted=True):
        return self.steps.empty_like(self.x) if wanted else self.steps.nothing(self.x.dtype, self.x.device)

    def sums(self, wanted):
        """Rows of sums over the positions, which `added` adds."""
        if not wanted:
            return self.steps.nothing(accumulator(self.x.dtype), self.x.device)
        return rows_of_sums(self.steps, self.cut.pieces, self.cut.C, self.x)

    def added(self, sums, wanted):
        if wanted and self.x.numel():
            return add_rows(self.steps, sums)
        return self.steps.zeros((self.channels,), sums.dtype, sums.device) if wanted else sums

    def launch(self, kernel, **arguments):
        if self.x.numel():
            c = self.cut
            grid = (c.channel_blocks * c.pieces, 1, 1)
            self.steps.launch(kernel, grid, warps=WARPS, **self.common, **c.arguments, **arguments)


@planned(tensors=2)
def forward(steps, x, bias, dim, act, alpha, gain, clamp):
    p = _Problem(steps, x, dim, act, alpha, gain, clamp, bias is not None)
    y = p.like()
    p.launch(bias_act_forward_kernel, x=p.x, bias=p.per_channel("bias", bias), y=y, HAS_BIAS=bias is not None)
    return y


@planned(tensors=3)
def backward(steps, grad, saved, bias, dim, act, alpha, gain, clamp, from_output, output_mask):
    need_x, need_bias = output_mask
    p = _Problem(steps, saved, dim, act, alpha, gain, clamp, bias is not None or need_bias, from_output)
    dx, sums = p.like(need_x), p.sums(need_bias)
    p.launch(
        bias_act_backward_kernel,
        grad=laid_out_like(steps, "grad", grad, p.x),
        saved=p.x,
        bias=p.per_channel("bias", bias),
        dx=dx,
        dbias=sums,
        FROM_OUTPUT=from_output,
        HAS_BIAS=bias is not None,
        NEED_X=need_x,
        NEED_BIAS=need_bias,
    )
    return dx, p.added(sums, need_bias)


@planned(tensors=5)
def double_backward(steps, h, h_bias, grad, saved, bias, dim, act, alpha, gain, clamp, from_output, output_mask):
    need_grad, need_saved, need_bias = output_mask
    per_channel = bias is not None or h_bias is not None or need_bias
    p = _Problem(steps, saved, dim, act, alpha, gain, clamp, per_channel, from_output)
    d_grad, d_saved, sums = p.like(need_grad), p.like(need_saved), p.sums(need_bias)
    p.launch(
        bias_act_double_backward_kernel,
        h=None if h is None else laid_out_like(steps, "h", h, p.x),
        h_bias=p.per_channel("h_bias", h_bias),
        grad=laid_out_like(steps, "grad", grad, p.x),
        saved=p.x,
        bias=p.per_channel("bias", bias),
        d_grad=d_grad,
        d_saved=d_saved,
        d_bias=sums,
        FROM_OUTPUT=from_output,
        HAS_BIAS=bias is not None,
        HAS_H=h is not None,
        HAS_H_BIAS=h_bias is not None,
        NEED_GRAD=need_grad,
        NEED_SAVED=need_saved,
        NEED_BIAS=need_bias,
    )
    return d_grad, d_saved, p.added(sums, need_bias)
