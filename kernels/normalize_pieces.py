"""Normalisation of statistics rows that do not fit on chip, or run through the batch, in two passes over the data.

The first pass leaves a few sums for every piece of every channel; small kernels, a program for each statistics row,
make of them the numbers of the row; the second pass combines the inputs. A unit is a sample, or the whole batch where
its samples' positions follow one another. Sums of pieces: (K, units, C, pieces); rows: (N, GROUPS), or (C,) with BATCH.
"""

import triton
import triton.language as tl
from fastgan.kernels.channels import of_channels, offsets
from fastgan.kernels.normalize_formulas import inverse_deviation, second_order_factors


@triton.jit
def _place(C, P, pieces, WIDE: tl.constexpr, BLOCK_C: tl.constexpr):
    """The program's unit, piece and channels. Units are neighbours last, so that tiles of a row run side by side."""
    channel_blocks = tl.cdiv(C, BLOCK_C)
    pid = tl.program_id(0)
    piece, rest = pid % pieces, pid // pieces
    channel = rest % channel_blocks * BLOCK_C + tl.arange(0, BLOCK_C)
    return (rest // channel_blocks).to(tl.int64), piece.to(tl.int64 if WIDE else tl.int32), channel


@triton.jit
def _row(unit, channel, D, GROUPS, BATCH: tl.constexpr):
    return channel if BATCH else unit * GROUPS + channel // D


@triton.jit
def normalize_pieces_moments_kernel(
    x, sums, UNITS, C, P, S, pieces, tiles,
    A: tl.constexpr, LAYOUT: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Of every piece: a shift near its mean, the mean less the shift, the sum of squared deviations (Chan et al.)."""
    unit, piece, channel = _place(C, P, pieces, WIDE, BLOCK_C)
    shift, mean, m2 = tl.zeros((BLOCK_C,), A), tl.zeros((BLOCK_C,), A), tl.zeros((BLOCK_C,), A)
    for i in range(tiles):
        start = (piece * tiles + i) * BLOCK_P
        position = start + tl.arange(0, BLOCK_P)
        mask = (channel < C)[:, None] & (position < P)[None, :]
        at = unit * C * P + offsets(channel, position, C, S, LAYOUT, WIDE)
        v = tl.load(x + at, mask=mask, other=0.0).to(A)  # (BLOCK_C, BLOCK_P)
        count = tl.maximum(tl.minimum(P - start, BLOCK_P), 0).to(A)
        divisor = tl.maximum(count, 1.0)
        if i == 0:
            shift = tl.sum(v, 1) / divisor
        d = tl.where(mask, v - shift[:, None], 0.0)
        tile_mean = tl.sum(d, 1) / divisor
        d = tl.where(mask, d - tile_mean[:, None], 0.0)
        before = tl.cast(i * BLOCK_P, A)
        delta, share = tile_mean - mean, count / (before + divisor)
        mean += delta * share
        m2 += tl.sum(d * d, 1) + delta * delta * before * share
    at = ((unit * C + channel) * pieces + piece).to(tl.int64)
    stride = tl.cast(UNITS, tl.int64) * C * pieces
    tl.store(sums + at, shift, mask=channel < C)
    tl.store(sums + stride + at, mean, mask=channel < C)
    tl.store(sums + 2 * stride + at, m2, mask=channel < C)


@triton.jit
def _entry(i, row, C, D, pieces, BATCH: tl.constexpr):
    """Number i of a row's pieces: (unit * C + channel, piece)."""
    member = i // pieces
    return member * C + row if BATCH else row * D + member, i % pieces


@triton.jit
def normalize_pieces_finish_moments_kernel(
    sums, mean_out, rest_out, var_out, UNITS, C, P, D, pieces, chunk, entries, count,
    BATCH: tl.constexpr, A: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Mean, what its rounding left, and variance of a row, summed in fp64."""
    row = tl.program_id(0).to(tl.int64)
    stride = tl.cast(UNITS, tl.int64) * C * pieces
    total = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, entries, BLOCK):
        i = first + tl.arange(0, BLOCK)
        plane, piece = _entry(i, row, C, D, pieces, BATCH)
        at = plane * pieces + piece
        size = tl.minimum(P - piece * chunk, chunk).to(tl.float64)
        shift = tl.load(sums + at, mask=i < entries, other=0.0).to(tl.float64)
        total += size * (shift + tl.load(sums + stride + at, mask=i < entries, other=0.0).to(tl.float64))
    mean = tl.sum(total, 0) / tl.cast(count, tl.float64)
    total = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, entries, BLOCK):
        i = first + tl.arange(0, BLOCK)
        plane, piece = _entry(i, row, C, D, pieces, BATCH)
        at = plane * pieces + piece
        size = tl.minimum(P - piece * chunk, chunk).to(tl.float64)
        shift = tl.load(sums + at, mask=i < entries, other=0.0).to(tl.float64)
        off = shift + tl.load(sums + stride + at, mask=i < entries, other=0.0).to(tl.float64) - mean
        m2 = tl.load(sums + 2 * stride + at, mask=i < entries, other=0.0).to(tl.float64)
        total += tl.where(i < entries, m2 + size * off * off, 0.0)
    kept = mean.to(A)
    tl.store(mean_out + row, kept)
    tl.store(rest_out + row, (mean - kept.to(tl.float64)).to(A))
    tl.store(var_out + row, (tl.sum(total, 0) / tl.cast(count, tl.float64)).to(A))


@triton.jit
def normalize_pieces_forward_kernel(
    x, gamma, beta, mean, rest, var, y, eps: tl.float64, C, P, S, D, GROUPS, pieces, tiles,
    HAS_GAMMA: tl.constexpr, HAS_BETA: tl.constexpr, PER_SAMPLE: tl.constexpr, BATCH: tl.constexpr,
    A: tl.constexpr, LAYOUT: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    unit, piece, channel = _place(C, P, pieces, WIDE, BLOCK_C)
    valid = channel < C
    w, row = unit * C + channel if PER_SAMPLE else channel, _row(unit, channel, D, GROUPS, BATCH)
    m = tl.load(mean + row, mask=valid, other=0.0)[:, None]
    r = inverse_deviation(tl.load(var + row, mask=valid, other=1.0), eps, A)
    fx = r * of_channels(gamma, w, valid, HAS_GAMMA, 1.0, A)
    constant = of_channels(beta, w, valid, HAS_BETA, 0.0, A) - fx * tl.load(rest + row, mask=valid, other=0.0)
    for i in range(tiles):
        position = (piece * tiles + i) * BLOCK_P + tl.arange(0, BLOCK_P)
        mask = valid[:, None] & (position < P)[None, :]
        at = unit * C * P + offsets(channel, position, C, S, LAYOUT, WIDE)
        v = tl.load(x + at, mask=mask, other=0.0).to(A)
        tl.store(y + at, ((v - m) * fx[:, None] + constant[:, None]).to(y.dtype.element_ty), mask=mask)


@triton.jit
def normalize_pieces_channel_sums_kernel(
    grad, h, x, mean, sums, UNITS, C, P, S, D, GROUPS, pieces, tiles, HAS_G: tl.constexpr, HAS_H: tl.constexpr,
    BATCH: tl.constexpr, A: tl.constexpr, LAYOUT: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Of every piece: sums of g, g xc, h, h xc, h g."""
    unit, piece, channel = _place(C, P, pieces, WIDE, BLOCK_C)
    valid = channel < C
    m = tl.load(mean + _row(unit, channel, D, GROUPS, BATCH), mask=valid, other=0.0)[:, None]
    s0, s1 = tl.zeros((BLOCK_C, BLOCK_P), A), tl.zeros((BLOCK_C, BLOCK_P), A)
    s2, s3 = tl.zeros((BLOCK_C, BLOCK_P), A), tl.zeros((BLOCK_C, BLOCK_P), A)
    s4 = tl.zeros((BLOCK_C, BLOCK_P), A)
    for i in range(tiles):
        position = (piece * tiles + i) * BLOCK_P + tl.arange(0, BLOCK_P)
        mask = valid[:, None] & (position < P)[None, :]
        at = unit * C * P + offsets(channel, position, C, S, LAYOUT, WIDE)
        xc = tl.load(x + at, mask=mask, other=0.0).to(A) - m  # g and h are zero outside
        if HAS_G:
            g = tl.load(grad + at, mask=mask, other=0.0).to(A)
            s0 += g
            s1 += g * xc
        if HAS_H:
            hv = tl.load(h + at, mask=mask, other=0.0).to(A)
            s2 += hv
            s3 += hv * xc
            if HAS_G:
                s4 += hv * g
    at = ((unit * C + channel) * pieces + piece).to(tl.int64)
    stride = tl.cast(UNITS, tl.int64) * C * pieces
    if HAS_G:
        tl.store(sums + at, tl.sum(s0, 1), mask=valid)
        tl.store(sums + stride + at, tl.sum(s1, 1), mask=valid)
    if HAS_H:
        tl.store(sums + 2 * stride + at, tl.sum(s2, 1), mask=valid)
        tl.store(sums + 3 * stride + at, tl.sum(s3, 1), mask=valid)
        if HAS_G:
            tl.store(sums + 4 * stride + at, tl.sum(s4, 1), mask=valid)


@triton.jit
def normalize_pieces_finish_sums_kernel(
    sums, gamma, h_gamma, var, factors, eps: tl.float64, UNITS, ROWS, C, D, pieces, entries, count,
    HAS_G: tl.constexpr, HAS_H: tl.constexpr, HAS_W: tl.constexpr, HAS_GAMMA: tl.constexpr, PER_SAMPLE: tl.constexpr,
    BATCH: tl.constexpr, DOUBLE: tl.constexpr, A: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A row's factors (6, ROWS): ac, ax, x0, xx, xh, xa; of them, x0 and xx for the first dx = r a + x0 + xx xc."""
    row = tl.program_id(0).to(tl.int64)
    stride = tl.cast(UNITS, tl.int64) * C * pieces
    t, s = tl.zeros((BLOCK,), A), tl.zeros((BLOCK,), A)
    p, q, ha = tl.zeros((BLOCK,), A), tl.zeros((BLOCK,), A), tl.zeros((BLOCK,), A)
    b, bx = tl.zeros((BLOCK,), A), tl.zeros((BLOCK,), A)
    for first in range(0, entries, BLOCK):
        i = first + tl.arange(0, BLOCK)
        mask = i < entries
        plane, piece = _entry(i, row, C, D, pieces, BATCH)
        at, weight_at = plane * pieces + piece, plane if PER_SAMPLE else plane % C
        k = of_channels(gamma, weight_at, mask, HAS_GAMMA, 1.0, A)
        if HAS_G:
            g = tl.load(sums + at, mask=mask, other=0.0)
            gx = tl.load(sums + stride + at, mask=mask, other=0.0)
            t += k * g
            s += k * gx
            if HAS_W:
                w = of_channels(h_gamma, weight_at, mask, HAS_W, 0.0, A)
                b += w * g
                bx += w * gx
        if HAS_H:
            p += tl.load(sums + 2 * stride + at, mask=mask, other=0.0)
            q += tl.load(sums + 3 * stride + at, mask=mask, other=0.0)
            if HAS_G:
                ha += k * tl.load(sums + 4 * stride + at, mask=mask, other=0.0)
    r = inverse_deviation(tl.load(var + row), eps, A)
    n = tl.cast(count, A)
    mean_t, mean_s = tl.sum(t, 0) / n, tl.sum(s, 0) * r / n
    to = factors + row
    if DOUBLE:
        ac, ax, x0, xx, xh, xa = second_order_factors(
            r, tl.sum(p, 0) / n, tl.sum(q, 0) * r / n, mean_t, mean_s, tl.sum(ha, 0) / n, tl.sum(b, 0) / n,
            tl.sum(bx, 0) * r / n,
        )  # fmt: skip
        tl.store(to, ac)
        tl.store(to + ROWS, ax)
        tl.store(to + 2 * ROWS, x0)
        tl.store(to + 3 * ROWS, xx)
        tl.store(to + 4 * ROWS, xh)
        tl.store(to + 5 * ROWS, xa)
    else:
        tl.store(to + 2 * ROWS, -r * mean_t)
        tl.store(to + 3 * ROWS, -r * r * mean_s)


@triton.jit
def normalize_pieces_channel_gradients_kernel(
    sums, var, factors, dgamma, dbeta, eps: tl.float64, UNITS, ROWS, C, D, GROUPS, pieces,
    BATCH: tl.constexpr, DOUBLE: tl.constexpr, A: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of every unit's channels, (UNITS, C): dgamma = r sum g xc and dbeta = sum g, or d_gamma = sum g d_a."""
    plane = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = plane < UNITS * C
    row = _row(plane // C, plane % C, D, GROUPS, BATCH)
    stride = tl.cast(UNITS, tl.int64) * C * pieces
    g, gx, hg = tl.zeros((BLOCK,), A), tl.zeros((BLOCK,), A), tl.zeros((BLOCK,), A)
    for piece in range(pieces):
        at = plane * pieces + piece
        g += tl.load(sums + at, mask=mask, other=0.0)
        gx += tl.load(sums + stride + at, mask=mask, other=0.0)
        if DOUBLE:
            hg += tl.load(sums + 4 * stride + at, mask=mask, other=0.0)
    r = inverse_deviation(tl.load(var + row, mask=mask, other=1.0), eps, A)
    if DOUBLE:
        ac, ax = tl.load(factors + row, mask=mask, other=0.0), tl.load(factors + ROWS + row, mask=mask, other=0.0)
        tl.store(dgamma + plane, r * hg + ac * g + ax * gx, mask=mask)
    else:
        tl.store(dgamma + plane, r * gx, mask=mask)
        tl.store(dbeta + plane, g, mask=mask)


@triton.jit
def normalize_pieces_backward_kernel(
    grad, x, gamma, mean, var, factors, dx, eps: tl.float64, ROWS, C, P, S, D, GROUPS, pieces, tiles,
    HAS_GAMMA: tl.constexpr, PER_SAMPLE: tl.constexpr, BATCH: tl.constexpr,
    A: tl.constexpr, LAYOUT: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    unit, piece, channel = _place(C, P, pieces, WIDE, BLOCK_C)
    valid = channel < C
    w, row = unit * C + channel if PER_SAMPLE else channel, _row(unit, channel, D, GROUPS, BATCH)
    m = tl.load(mean + row, mask=valid, other=0.0)[:, None]
    r = inverse_deviation(tl.load(var + row, mask=valid, other=1.0), eps, A)
    fg = (r * of_channels(gamma, w, valid, HAS_GAMMA, 1.0, A))[:, None]
    x0 = tl.load(factors + 2 * ROWS + row, mask=valid, other=0.0)[:, None]
    xx = tl.load(factors + 3 * ROWS + row, mask=valid, other=0.0)[:, None]
    for i in range(tiles):
        position = (piece * tiles + i) * BLOCK_P + tl.arange(0, BLOCK_P)
        mask = valid[:, None] & (position < P)[None, :]
        at = unit * C * P + offsets(channel, position, C, S, LAYOUT, WIDE)
        xc = tl.load(x + at, mask=mask, other=0.0).to(A) - m
        g = tl.load(grad + at, mask=mask, other=0.0).to(A)
        tl.store(dx + at, (fg * g + x0 + xx * xc).to(dx.dtype.element_ty), mask=mask)


@triton.jit
def normalize_pieces_double_backward_kernel(
    h, h_gamma, h_beta, grad, x, gamma, mean, var, factors, d_grad, d_x, eps: tl.float64,
    ROWS, C, P, S, D, GROUPS, pieces, tiles,
    HAS_H: tl.constexpr, HAS_W: tl.constexpr, HAS_Z: tl.constexpr, HAS_GAMMA: tl.constexpr, PER_SAMPLE: tl.constexpr,
    NEED_GRAD: tl.constexpr, NEED_X: tl.constexpr, BATCH: tl.constexpr,
    A: tl.constexpr, LAYOUT: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    unit, piece, channel = _place(C, P, pieces, WIDE, BLOCK_C)
    valid = channel < C
    weight_at, row = unit * C + channel if PER_SAMPLE else channel, _row(unit, channel, D, GROUPS, BATCH)
    m = tl.load(mean + row, mask=valid, other=0.0)[:, None]
    r = inverse_deviation(tl.load(var + row, mask=valid, other=1.0), eps, A)[:, None]
    k = of_channels(gamma, weight_at, valid, HAS_GAMMA, 1.0, A)[:, None]
    w = of_channels(h_gamma, weight_at, valid, HAS_W, 0.0, A)[:, None]
    z = of_channels(h_beta, weight_at, valid, HAS_Z, 0.0, A)[:, None]
    ac = tl.load(factors + row, mask=valid, other=0.0)[:, None]
    ax = tl.load(factors + ROWS + row, mask=valid, other=0.0)[:, None]
    x0 = tl.load(factors + 2 * ROWS + row, mask=valid, other=0.0)[:, None]
    xx = tl.load(factors + 3 * ROWS + row, mask=valid, other=0.0)[:, None]
    xh = tl.load(factors + 4 * ROWS + row, mask=valid, other=0.0)[:, None]
    xa = tl.load(factors + 5 * ROWS + row, mask=valid, other=0.0)[:, None]
    for i in range(tiles):
        position = (piece * tiles + i) * BLOCK_P + tl.arange(0, BLOCK_P)
        mask = valid[:, None] & (position < P)[None, :]
        at = unit * C * P + offsets(channel, position, C, S, LAYOUT, WIDE)
        xc = tl.load(x + at, mask=mask, other=0.0).to(A) - m
        hv = tl.load(h + at, mask=mask, other=0.0).to(A) if HAS_H else tl.zeros((BLOCK_C, BLOCK_P), A)
        if NEED_GRAD:
            value = k * (r * hv + ac + ax * xc) + w * r * xc + z
            tl.store(d_grad + at, value.to(d_grad.dtype.element_ty), mask=mask)
        if NEED_X:
            g = tl.load(grad + at, mask=mask, other=0.0).to(A)
            value = x0 + xx * xc + xh * hv + (xa * k + r * w) * g
            tl.store(d_x + at, value.to(d_x.dtype.element_ty), mask=mask)
