"""Normalisation of statistics rows that fit on chip: a program holds D channels of S elements, padded to PD and PS.

Everything is read once and written once. A program takes `each` samples in turn, so that the gradients of the affine
weights, sums over the samples, leave a row of numbers for each block of samples.
"""

import triton
import triton.language as tl
from fastgan.kernels.channels import INSIDE_LAYOUT, of_channels
from fastgan.kernels.normalize_formulas import inverse_deviation, second_order_factors


@triton.jit
def _total(values):
    return tl.sum(tl.sum(values, 1), 0)


@triton.jit
def _along_channels(c, LAYOUT: tl.constexpr):
    """Numbers of channels (PD,) beside the tile. The dimension that is contiguous in memory is the tile's last."""
    return c[None, :] if LAYOUT == INSIDE_LAYOUT else c[:, None]


@triton.jit
def _over_positions(tile, LAYOUT: tl.constexpr):
    """(PD,)"""
    return tl.sum(tile, 0) if LAYOUT == INSIDE_LAYOUT else tl.sum(tile, 1)


@triton.jit
def _place(C, S, D, GROUPS, LAYOUT: tl.constexpr, PD: tl.constexpr, PS: tl.constexpr):
    """The program's block of samples, its group, its channels, and where and which the row's elements are."""
    group, block = tl.program_id(0) % GROUPS, tl.program_id(0) // GROUPS
    dc, s = tl.arange(0, PD), tl.arange(0, PS)
    if LAYOUT == INSIDE_LAYOUT:  # (PS, PD)
        within = group * D + s[:, None] * C + dc[None, :]
        mask = (s < S)[:, None] & (dc < D)[None, :]
    else:  # (PD, PS)
        within = group * D * S + dc[:, None] * S + s[None, :]
        mask = (dc < D)[:, None] & (s < S)[None, :]
    return block, group, group * D + dc, dc < D, within, mask


@triton.jit
def normalize_rows_forward_kernel(
    x, gamma, beta, y, mean_out, var_out, eps: tl.float64, N, C, S, D, GROUPS, each,
    HAS_GAMMA: tl.constexpr, HAS_BETA: tl.constexpr, PER_SAMPLE: tl.constexpr,
    A: tl.constexpr, LAYOUT: tl.constexpr, PD: tl.constexpr, PS: tl.constexpr,
):  # fmt: skip
    block, group, channel, valid, within, mask = _place(C, S, D, GROUPS, LAYOUT, PD, PS)
    count = tl.cast(D * S, A)
    for n in range(block * each, tl.minimum(N, (block + 1) * each)):
        first = tl.cast(n, tl.int64) * C * S
        w = n * C + channel if PER_SAMPLE else channel
        v = tl.load(x + first + within, mask=mask, other=0.0).to(A)  # (PD, PS) or (PS, PD)
        guess = _total(v) / count
        d = tl.where(mask, v - guess, 0.0)
        rest = _total(d) / count  # what rounding left of the mean
        d = tl.where(mask, d - rest, 0.0)
        var = _total(d * d) / count
        fx = inverse_deviation(var, eps, A) * of_channels(gamma, w, valid, HAS_GAMMA, 1.0, A)
        out = d * _along_channels(fx, LAYOUT)
        out += _along_channels(of_channels(beta, w, valid, HAS_BETA, 0.0, A), LAYOUT)
        tl.store(y + first + within, out.to(y.dtype.element_ty), mask=mask)
        tl.store(mean_out + n * GROUPS + group, guess + rest)
        tl.store(var_out + n * GROUPS + group, var)


@triton.jit
def normalize_rows_backward_kernel(
    grad, x, gamma, mean, var, dx, dgamma, dbeta, eps: tl.float64, N, C, S, D, GROUPS, each,
    HAS_GAMMA: tl.constexpr, PER_SAMPLE: tl.constexpr, NEED_X: tl.constexpr, NEED_AFFINE: tl.constexpr,
    A: tl.constexpr, LAYOUT: tl.constexpr, PD: tl.constexpr, PS: tl.constexpr,
):  # fmt: skip
    """dx = r (a - <a>) - r^2 xc s. dgamma, dbeta: (blocks of samples, C), or (N, C)."""
    block, group, channel, valid, within, mask = _place(C, S, D, GROUPS, LAYOUT, PD, PS)
    count = tl.cast(D * S, A)
    gammas, betas = tl.zeros((PD,), A), tl.zeros((PD,), A)
    for n in range(block * each, tl.minimum(N, (block + 1) * each)):
        first = tl.cast(n, tl.int64) * C * S
        w = n * C + channel if PER_SAMPLE else channel
        r = inverse_deviation(tl.load(var + n * GROUPS + group), eps, A)
        xc = tl.load(x + first + within, mask=mask, other=0.0).to(A) - tl.load(mean + n * GROUPS + group)
        xc = tl.where(mask, xc, 0.0)
        g = tl.load(grad + first + within, mask=mask, other=0.0).to(A)
        if NEED_X:
            a = g * _along_channels(of_channels(gamma, w, valid, HAS_GAMMA, 1.0, A), LAYOUT)
            t, s = _total(a) / count, _total(a * xc) * r / count
            tl.store(dx + first + within, (r * (a - t) - r * r * s * xc).to(dx.dtype.element_ty), mask=mask)
        if NEED_AFFINE:
            if PER_SAMPLE:
                tl.store(dgamma + w, _over_positions(g * xc, LAYOUT) * r, mask=valid)
                tl.store(dbeta + w, _over_positions(g, LAYOUT), mask=valid)
            else:
                gammas += _over_positions(g * xc, LAYOUT) * r
                betas += _over_positions(g, LAYOUT)
    if NEED_AFFINE and not PER_SAMPLE:
        tl.store(dgamma + block * C + channel, gammas, mask=valid)
        tl.store(dbeta + block * C + channel, betas, mask=valid)


@triton.jit
def normalize_rows_double_backward_kernel(
    h, h_gamma, h_beta, grad, x, gamma, mean, var, d_grad, d_x, d_gamma, eps: tl.float64, N, C, S, D, GROUPS, each,
    HAS_H: tl.constexpr, HAS_W: tl.constexpr, HAS_Z: tl.constexpr, HAS_GAMMA: tl.constexpr, PER_SAMPLE: tl.constexpr,
    NEED_GRAD: tl.constexpr, NEED_X: tl.constexpr, NEED_GAMMA: tl.constexpr,
    A: tl.constexpr, LAYOUT: tl.constexpr, PD: tl.constexpr, PS: tl.constexpr,
):  # fmt: skip
    """d_g = gamma d_a + w r xc + z, d_gamma = sum g d_a; d_gamma: (blocks of samples, C), or (N, C)."""
    block, group, channel, valid, within, mask = _place(C, S, D, GROUPS, LAYOUT, PD, PS)
    count = tl.cast(D * S, A)
    gammas = tl.zeros((PD,), A)
    for n in range(block * each, tl.minimum(N, (block + 1) * each)):
        first = tl.cast(n, tl.int64) * C * S
        weight_at = n * C + channel if PER_SAMPLE else channel
        k = _along_channels(of_channels(gamma, weight_at, valid, HAS_GAMMA, 1.0, A), LAYOUT)
        w = _along_channels(of_channels(h_gamma, weight_at, valid, HAS_W, 0.0, A), LAYOUT)
        z = _along_channels(of_channels(h_beta, weight_at, valid, HAS_Z, 0.0, A), LAYOUT)
        r = inverse_deviation(tl.load(var + n * GROUPS + group), eps, A)
        xc = tl.load(x + first + within, mask=mask, other=0.0).to(A) - tl.load(mean + n * GROUPS + group)
        xc = tl.where(mask, xc, 0.0)
        g = tl.load(grad + first + within, mask=mask, other=0.0).to(A)
        hv = tl.load(h + first + within, mask=mask, other=0.0).to(A) if HAS_H else tl.zeros_like(xc)
        a, wg = k * g, w * g
        t, s = _total(a) / count, _total(a * xc) * r / count
        p, q, ha = _total(hv) / count, _total(hv * xc) * r / count, _total(hv * a) / count
        b, bx = _total(wg) / count, _total(wg * xc) * r / count
        ac, ax, x0, xx, xh, xa = second_order_factors(r, p, q, t, s, ha, b, bx)
        d_a = r * hv + ac + ax * xc
        if NEED_GRAD:
            tl.store(d_grad + first + within, (k * d_a + w * r * xc + z).to(d_grad.dtype.element_ty), mask=mask)
        if NEED_X:
            value = x0 + xx * xc + xh * hv + xa * a + r * wg
            tl.store(d_x + first + within, value.to(d_x.dtype.element_ty), mask=mask)
        if NEED_GAMMA:
            if PER_SAMPLE:
                tl.store(d_gamma + weight_at, _over_positions(g * d_a, LAYOUT), mask=valid)
            else:
                gammas += _over_positions(g * d_a, LAYOUT)
    if NEED_GAMMA and not PER_SAMPLE:
        tl.store(d_gamma + block * C + channel, gammas, mask=valid)
