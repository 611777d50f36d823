"""Attention on the GPU: forward, backward, double backward, in the letters of csrc/cpu/attention/kernels.h.

Sweeps over keys make what belongs to query rows (out, dQ, ddO, mu, b, dQ'), sweeps over queries what belongs to keys
(dK, dV, dbias and their seconds). The latter hold scores as keys x queries, so that they are left operands where they
lie, and cut the queries into pieces where keys are few; the pieces' sums are added in a fixed order. Every sweep
recomputes its blocks of scores, so that extra memory is O(N). Scores and sums are fp32; operands of products have the
inputs' type. Nothing is summed by atomics: results are deterministic.
"""

import functools

import torch
import triton
import triton.language as tl
from fastgan.kernels.channels import add_rows_kernel
from fastgan.kernels.launch import planned

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)

ENOUGH_PROGRAMS = 512  # of four warps: four on each multiprocessor of an H100
MOST_SPLITS, LEAST_BLOCKS = 16, 4  # pieces of a sum over queries, and blocks in a piece
SMALLEST = 16  # rows of a block: tl.dot takes no fewer

# (queries, keys, warps, stages) of a block, by the sum of padded widths (up to 64, 128, 192, 256, beyond): for 16-bit
# inputs, for fp32 as tf32 products (up to 192, of them 64 for a key), for fp32 as multiply-adds. Those of the first two
# were found on an H200 for sums over keys, by the compiler's report for an H100 for sums over queries. Small fixed
# tables: the first call of a training step must not wait for a search.
TABLES = {
    "forward": {"16 bit": [(64, 64, 4, 3)] * 3 + [(128, 64, 8, 2), (64, 32, 8, 2)],
                "tf32": [(64, 64, 4, 2), (128, 64, 8, 2), (128, 64, 8, 2)],
                "fp32": [(64, 32, 4, 2), (32, 32, 4, 1)] + [(32, 16, 8, 1)] * 3},
    "backward_rows": {"16 bit": [(64, 32, 4, 3), (64, 64, 4, 2), (64, 32, 4, 3), (64, 32, 4, 2), (32, 32, 8, 1)],
                      "tf32": [(64, 32, 4, 1)] * 3,
                      "fp32": [(64, 16, 4, 1), (64, 16, 8, 1)] + [(16, 16, 8, 1)] * 3},
    "backward_keys": {"16 bit": [(64, 64, 4, 2)] * 3 + [(64, 64, 8, 2), (16, 32, 8, 1)],
                      "tf32": [(32, 64, 4, 1)] * 3,
                      "fp32": [(16, 64, 4, 1), (16, 64, 8, 1), (32, 16, 8, 1), (32, 16, 8, 1), (16, 16, 8, 1)]},
    "double_rows_first": {"16 bit": [(64, 64, 4, 2)] * 3 + [(32, 64, 4, 1), (16, 32, 8, 1)],
                          "tf32": [(64, 32, 4, 1), (32, 32, 4, 2), (32, 32, 4, 2)],
                          "fp32": [(32, 16, 4, 1), (32, 16, 8, 1)] + [(16, 16, 8, 1)] * 3},
    "double_rows_second": {"16 bit": [(64, 64, 4, 2)] * 3 + [(64, 32, 4, 1), (16, 32, 8, 1)],
                           "tf32": [(64, 32, 4, 1)] * 3,
                           "fp32": [(32, 16, 4, 1), (32, 16, 8, 1)] + [(16, 16, 8, 1)] * 3},
    "double_keys": {"16 bit": [(64, 64, 4, 2), (64, 64, 4, 2), (32, 128, 8, 2), (32, 128, 8, 2), (16, 16, 8, 1)],
                    "tf32": [(32, 64, 4, 1), (32, 64, 4, 1), (32, 64, 4, 1)],
                    "fp32": [(16, 32, 8, 1), (16, 32, 8, 1)] + [(16, 16, 8, 1)] * 3},
}  # fmt: skip


@triton.jit
def _block_and_head(count, BLOCK: tl.constexpr):
    """This program's first row of `count` and its head: both on the grid's first axis; the others end at 65,535."""
    blocks = tl.cdiv(count, BLOCK)
    return tl.program_id(0) % blocks * BLOCK, (tl.program_id(0) // blocks).to(tl.int64)


@triton.jit
def _rows(base, start, count, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr):
    """Rows start ... start + BLOCK of a (count, WIDTH) matrix, zero outside: (BLOCK, PADDED)."""
    row, column = start + tl.arange(0, BLOCK)[:, None], tl.arange(0, PADDED)[None, :]
    if EVEN and WIDTH == PADDED:
        return tl.load(base + row * WIDTH + column)
    return tl.load(base + row * WIDTH + column, mask=(row < count) & (column < WIDTH), other=0.0)


@triton.jit
def _store_rows(base, value, start, count, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):
    row, column = start + tl.arange(0, BLOCK)[:, None], tl.arange(0, PADDED)[None, :]
    tl.store(base + row * WIDTH + column, value.to(base.dtype.element_ty), mask=(row < count) & (column < WIDTH))


@triton.jit
def _vector(base, start, count, BLOCK: tl.constexpr, EVEN: tl.constexpr = False):
    at = start + tl.arange(0, BLOCK)
    if EVEN:
        return tl.load(base + at)
    return tl.load(base + at, mask=at < count, other=0.0)


@triton.jit
def _store_vector(base, value, start, count, BLOCK: tl.constexpr):
    at = start + tl.arange(0, BLOCK)
    tl.store(base + at, value, mask=at < count)


@triton.jit
def _product(a, b, PRECISION: tl.constexpr):
    return tl.dot(a.to(b.dtype), b, input_precision=PRECISION)


@triton.jit
def _product_t(a, b, PRECISION: tl.constexpr):
    """a b^T"""
    return tl.dot(a, tl.trans(b), input_precision=PRECISION)


@triton.jit
def _add_product(sums, a, b, PRECISION: tl.constexpr):
    return tl.dot(a.to(b.dtype), b, sums, input_precision=PRECISION)


@triton.jit
def _add_product_t(sums, a, b, PRECISION: tl.constexpr):
    return tl.dot(a, tl.trans(b), sums, input_precision=PRECISION)


@triton.jit
def _visible(i0, j0, N, M, CAUSAL: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr):
    i, j = i0 + tl.arange(0, BLOCK_N)[:, None], j0 + tl.arange(0, BLOCK_M)[None, :]
    seen = (i < N) & (j < M)
    if CAUSAL:
        seen = seen & (j <= i)
    return seen


@triton.jit
def _probabilities(
    s, l2, i0, j0, N, M, CAUSAL: tl.constexpr, EVEN: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr
):
    p = tl.exp2(s - l2[:, None])
    if CAUSAL or not EVEN:
        p = tl.where(_visible(i0, j0, N, M, CAUSAL, BLOCK_N, BLOCK_M), p, 0.0)
    return p


@triton.jit
def _logits(q, k, bias, j0, M, scale, HAS_BIAS: tl.constexpr, BLOCK_M: tl.constexpr, PRECISION: tl.constexpr):
    """In units of log 2: (BLOCK_N, BLOCK_M)."""
    s = _product_t(q, k, PRECISION) * (scale * LOG2E)
    if HAS_BIAS:
        s += (_vector(bias, j0, M, BLOCK_M) * LOG2E)[None, :]
    return s


@triton.jit
def _lse2(lse, i0, N, BLOCK_N: tl.constexpr):
    """log2 of the softmax's sum; infinite, so that P = 0, where a row sees no key."""
    value = _vector(lse, i0, N, BLOCK_N) * LOG2E
    return tl.where(value == float("-inf"), float("inf"), value)


@triton.jit
def attention_forward_kernel(
    q, k, v, bias, out, lse, scale, N, M,
    D: tl.constexpr, DV: tl.constexpr, PD: tl.constexpr, PDV: tl.constexpr,
    HAS_BIAS: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    i0, head = _block_and_head(N, BLOCK_N)
    q_tile = _rows(q + head * N * D, i0, N, D, PD, BLOCK_N, EVEN)
    largest = tl.full((BLOCK_N,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_N,), tl.float32)
    sums = tl.zeros((BLOCK_N, PDV), tl.float32)
    last = tl.minimum(M, i0 + BLOCK_N) if CAUSAL else M
    for j0 in range(0, last, BLOCK_M):
        k_tile = _rows(k + head * M * D, j0, M, D, PD, BLOCK_M, EVEN)
        s = _logits(q_tile, k_tile, bias + head * M, j0, M, scale, HAS_BIAS, BLOCK_M, PRECISION)
        if CAUSAL or not EVEN:
            s = tl.where(_visible(i0, j0, N, M, CAUSAL, BLOCK_N, BLOCK_M), s, float("-inf"))
        higher = tl.maximum(largest, tl.max(s, 1))
        base = tl.where(higher == float("-inf"), 0.0, higher)
        p = tl.exp2(s - base[:, None])
        kept = tl.exp2(largest - base)
        v_tile = _rows(v + head * M * DV, j0, M, DV, PDV, BLOCK_M, EVEN)
        total = total * kept + tl.sum(p, 1)
        sums = sums * kept[:, None] + _product(p, v_tile, PRECISION)
        largest = higher
    empty = total == 0.0
    sums = sums / tl.where(empty, 1.0, total)[:, None]
    _store_rows(out + head * N * DV, sums, i0, N, DV, PDV, BLOCK_N)
    log_sum = (largest + tl.log2(tl.where(empty, 1.0, total))) * LN2
    _store_vector(lse + head * N, log_sum, i0, N, BLOCK_N)


@triton.jit
def attention_backward_rows_kernel(
    grad_out, grad_lse, q, k, v, bias, out, lse, delta, log_sum, dq, scale, N, M,
    D: tl.constexpr, DV: tl.constexpr, PD: tl.constexpr, PDV: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_GRAD_LSE: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    NEED_DQ: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """delta = rowsum(dO*O) - dL, the softmax's log2 of sums, and dQ."""
    i0, head = _block_and_head(N, BLOCK_N)
    do = _rows(grad_out + head * N * DV, i0, N, DV, PDV, BLOCK_N, EVEN)
    o = _rows(out + head * N * DV, i0, N, DV, PDV, BLOCK_N, EVEN)
    d = tl.sum(do.to(tl.float32) * o.to(tl.float32), 1)
    if HAS_GRAD_LSE:
        d -= _vector(grad_lse + head * N, i0, N, BLOCK_N)
    _store_vector(delta + head * N, d, i0, N, BLOCK_N)
    l2 = _lse2(lse + head * N, i0, N, BLOCK_N)
    _store_vector(log_sum + head * N, l2, i0, N, BLOCK_N)
    if NEED_DQ:
        q_tile = _rows(q + head * N * D, i0, N, D, PD, BLOCK_N, EVEN)
        sums = tl.zeros((BLOCK_N, PD), tl.float32)
        last = tl.minimum(M, i0 + BLOCK_N) if CAUSAL else M
        for j0 in range(0, last, BLOCK_M):
            k_tile = _rows(k + head * M * D, j0, M, D, PD, BLOCK_M, EVEN)
            v_tile = _rows(v + head * M * DV, j0, M, DV, PDV, BLOCK_M, EVEN)
            s = _logits(q_tile, k_tile, bias + head * M, j0, M, scale, HAS_BIAS, BLOCK_M, PRECISION)
            p = _probabilities(s, l2, i0, j0, N, M, CAUSAL, EVEN, BLOCK_N, BLOCK_M)
            ds = p * (_product_t(do, v_tile, PRECISION) - d[:, None])
            sums += _product(ds, k_tile, PRECISION)
        _store_rows(dq + head * N * D, sums * scale, i0, N, D, PD, BLOCK_N)


@triton.jit
def _queries_of_split(first, N, BLOCK_N: tl.constexpr):
    """(begin, end) of the queries that this program sums over: the grid's second axis cuts first ... N."""
    each = tl.cdiv(tl.cdiv(N - first, BLOCK_N), tl.num_programs(1)) * BLOCK_N
    begin = first + tl.program_id(1) * each
    return begin, tl.minimum(N, begin + each)


@triton.jit
def _head_of_split(head, M, BLOCK_M: tl.constexpr):
    """Of sums (splits, heads, ...)."""
    return tl.program_id(1) * (tl.num_programs(0) // tl.cdiv(M, BLOCK_M)).to(tl.int64) + head


@triton.jit
def _probabilities_t(
    s, l2, i0, j0, N, M, CAUSAL: tl.constexpr, EVEN: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr
):
    """Keys x queries, so that P^T is the left operand of its products where it lies: (BLOCK_M, BLOCK_N)."""
    p = tl.exp2(s - l2[None, :])
    if CAUSAL or not EVEN:
        i, j = i0 + tl.arange(0, BLOCK_N)[None, :], j0 + tl.arange(0, BLOCK_M)[:, None]
        seen = (i < N) & (j < M)
        if CAUSAL:
            seen = seen & (j <= i)
        p = tl.where(seen, p, 0.0)
    return p


@triton.jit
def attention_backward_keys_kernel(
    grad_out, q, k, v, bias, log_sum, delta, dk, dv, dbias, scale, N, M,
    D: tl.constexpr, DV: tl.constexpr, PD: tl.constexpr, PDV: tl.constexpr,
    HAS_BIAS: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    NEED_DK: tl.constexpr, NEED_DV: tl.constexpr, NEED_DBIAS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    j0, head = _block_and_head(M, BLOCK_M)
    k_tile = _rows(k + head * M * D, j0, M, D, PD, BLOCK_M, EVEN)
    v_tile = _rows(v + head * M * DV, j0, M, DV, PDV, BLOCK_M, EVEN)
    k_sums = tl.zeros((BLOCK_M, PD), tl.float32)
    v_sums = tl.zeros((BLOCK_M, PDV), tl.float32)
    bias_sums = tl.zeros((BLOCK_M,), tl.float32)
    begin, end = _queries_of_split(j0 // BLOCK_N * BLOCK_N if CAUSAL else 0, N, BLOCK_N)
    for i0 in range(begin, end, BLOCK_N):
        q_tile = _rows(q + head * N * D, i0, N, D, PD, BLOCK_N, EVEN)
        do = _rows(grad_out + head * N * DV, i0, N, DV, PDV, BLOCK_N, EVEN)
        l2 = _vector(log_sum + head * N, i0, N, BLOCK_N, EVEN)
        s = _product_t(k_tile, q_tile, PRECISION) * (scale * LOG2E)
        if HAS_BIAS:
            s += (_vector(bias + head * M, j0, M, BLOCK_M) * LOG2E)[:, None]
        p = _probabilities_t(s, l2, i0, j0, N, M, CAUSAL, EVEN, BLOCK_N, BLOCK_M)
        if NEED_DV:
            v_sums = _add_product(v_sums, p, do, PRECISION)
        if NEED_DK or NEED_DBIAS:
            d = _vector(delta + head * N, i0, N, BLOCK_N, EVEN)
            ds = p * (_product_t(v_tile, do, PRECISION) - d[None, :])
            if NEED_DK:
                k_sums = _add_product(k_sums, ds, q_tile, PRECISION)
            if NEED_DBIAS:
                bias_sums += tl.sum(ds, 1)
    to = _head_of_split(head, M, BLOCK_M)
    if NEED_DK:
        _store_rows(dk + to * M * D, k_sums * scale, j0, M, D, PD, BLOCK_M)
    if NEED_DV:
        _store_rows(dv + to * M * DV, v_sums, j0, M, DV, PDV, BLOCK_M)
    if NEED_DBIAS:
        _store_vector(dbias + to * M, bias_sums, j0, M, BLOCK_M)


@triton.jit
def _tangent_of_logits(
    q, x, k, y, x_bias, j0, M, scale,
    HAS_X: tl.constexpr, HAS_Y: tl.constexpr, HAS_X_BIAS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """E = tau (X K^T + Q Y^T) + x"""
    e = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    if HAS_X:
        e = _add_product_t(e, x, k, PRECISION)
    if HAS_Y:
        e = _add_product_t(e, q, y, PRECISION)
    e *= scale
    if HAS_X_BIAS:
        e += _vector(x_bias, j0, M, BLOCK_M)[None, :]
    return e


@triton.jit
def attention_double_rows_first_kernel(
    x, y, z, x_bias, grad_out, grad_lse, q, k, v, bias, out, lse, delta, log_sum, mu, b, d_grad_out, scale, N, M,
    D: tl.constexpr, DV: tl.constexpr, PD: tl.constexpr, PDV: tl.constexpr,
    HAS_X: tl.constexpr, HAS_Y: tl.constexpr, HAS_Z: tl.constexpr, HAS_X_BIAS: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_GRAD_LSE: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    NEED_DDO: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """delta, the softmax's log2 of sums, mu, ddO, and b = rowsum(dO*ddO)."""
    i0, head = _block_and_head(N, BLOCK_N)
    q_tile = _rows(q + head * N * D, i0, N, D, PD, BLOCK_N, EVEN)
    x_tile = _rows(x + head * N * D, i0, N, D, PD, BLOCK_N, EVEN) if HAS_X else q_tile
    l2 = _lse2(lse + head * N, i0, N, BLOCK_N)
    mu_sums = tl.zeros((BLOCK_N,), tl.float32)
    sums = tl.zeros((BLOCK_N, PDV), tl.float32)
    last = tl.minimum(M, i0 + BLOCK_N) if CAUSAL else M
    for j0 in range(0, last, BLOCK_M):
        k_tile = _rows(k + head * M * D, j0, M, D, PD, BLOCK_M, EVEN)
        y_tile = _rows(y + head * M * D, j0, M, D, PD, BLOCK_M, EVEN) if HAS_Y else k_tile
        s = _logits(q_tile, k_tile, bias + head * M, j0, M, scale, HAS_BIAS, BLOCK_M, PRECISION)
        p = _probabilities(s, l2, i0, j0, N, M, CAUSAL, EVEN, BLOCK_N, BLOCK_M)
        e = _tangent_of_logits(q_tile, x_tile, k_tile, y_tile, x_bias + head * M, j0, M, scale,
                               HAS_X, HAS_Y, HAS_X_BIAS, BLOCK_N, BLOCK_M, PRECISION)  # fmt: skip
        pe = p * e
        mu_sums += tl.sum(pe, 1)
        v_tile = _rows(v + head * M * DV, j0, M, DV, PDV, BLOCK_M, EVEN)
        sums = _add_product(sums, pe, v_tile, PRECISION)
        if HAS_Z:
            z_tile = _rows(z + head * M * DV, j0, M, DV, PDV, BLOCK_M, EVEN)
            sums = _add_product(sums, p, z_tile, PRECISION)
    o = _rows(out + head * N * DV, i0, N, DV, PDV, BLOCK_N, EVEN).to(tl.float32)
    do = _rows(grad_out + head * N * DV, i0, N, DV, PDV, BLOCK_N, EVEN).to(tl.float32)
    sums -= mu_sums[:, None] * o
    d = tl.sum(do * o, 1)
    if HAS_GRAD_LSE:
        d -= _vector(grad_lse + head * N, i0, N, BLOCK_N)
    _store_vector(delta + head * N, d, i0, N, BLOCK_N)
    _store_vector(log_sum + head * N, l2, i0, N, BLOCK_N)
    _store_vector(mu + head * N, mu_sums, i0, N, BLOCK_N)
    _store_vector(b + head * N, tl.sum(do * sums, 1), i0, N, BLOCK_N)
    if NEED_DDO:
        _store_rows(d_grad_out + head * N * DV, sums, i0, N, DV, PDV, BLOCK_N)


@triton.jit
def attention_double_rows_second_kernel(
    x, y, z, x_bias, grad_out, q, k, v, bias, log_sum, delta, mu, b, dq, scale, N, M,
    D: tl.constexpr, DV: tl.constexpr, PD: tl.constexpr, PDV: tl.constexpr,
    HAS_X: tl.constexpr, HAS_Y: tl.constexpr, HAS_Z: tl.constexpr, HAS_X_BIAS: tl.constexpr,
    HAS_BIAS: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """dQ' = tau (dS Y + dS2 K) with dS = P*(dP - delta), dS2 = P*((dP - delta)*(E - mu) + dO Z^T - b)."""
    i0, head = _block_and_head(N, BLOCK_N)
    q_tile = _rows(q + head * N * D, i0, N, D, PD, BLOCK_N, EVEN)
    x_tile = _rows(x + head * N * D, i0, N, D, PD, BLOCK_N, EVEN) if HAS_X else q_tile
    do = _rows(grad_out + head * N * DV, i0, N, DV, PDV, BLOCK_N, EVEN)
    l2 = _vector(log_sum + head * N, i0, N, BLOCK_N, EVEN)
    d = _vector(delta + head * N, i0, N, BLOCK_N, EVEN)
    m = _vector(mu + head * N, i0, N, BLOCK_N, EVEN)
    bb = _vector(b + head * N, i0, N, BLOCK_N, EVEN)
    sums = tl.zeros((BLOCK_N, PD), tl.float32)
    last = tl.minimum(M, i0 + BLOCK_N) if CAUSAL else M
    for j0 in range(0, last, BLOCK_M):
        k_tile = _rows(k + head * M * D, j0, M, D, PD, BLOCK_M, EVEN)
        y_tile = _rows(y + head * M * D, j0, M, D, PD, BLOCK_M, EVEN) if HAS_Y else k_tile
        v_tile = _rows(v + head * M * DV, j0, M, DV, PDV, BLOCK_M, EVEN)
        z_tile = _rows(z + head * M * DV, j0, M, DV, PDV, BLOCK_M, EVEN) if HAS_Z else v_tile
        s = _logits(q_tile, k_tile, bias + head * M, j0, M, scale, HAS_BIAS, BLOCK_M, PRECISION)
        p = _probabilities(s, l2, i0, j0, N, M, CAUSAL, EVEN, BLOCK_N, BLOCK_M)
        e = _tangent_of_logits(q_tile, x_tile, k_tile, y_tile, x_bias + head * M, j0, M, scale,
                               HAS_X, HAS_Y, HAS_X_BIAS, BLOCK_N, BLOCK_M, PRECISION) - m[:, None]  # fmt: skip
        c = _product_t(do, v_tile, PRECISION) - d[:, None]
        if HAS_Y:
            sums = _add_product(sums, p * c, y_tile, PRECISION)
        t = c * e - bb[:, None]
        if HAS_Z:
            t = _add_product_t(t, do, z_tile, PRECISION)
        sums = _add_product(sums, p * t, k_tile, PRECISION)
    _store_rows(dq + head * N * D, sums * scale, i0, N, D, PD, BLOCK_N)


@triton.jit
def attention_double_keys_kernel(
    x, y, z, x_bias, grad_out, q, k, v, bias, log_sum, delta, mu, b, dk, dv, dbias, scale, N, M,
    D: tl.constexpr, DV: tl.constexpr, PD: tl.constexpr, PDV: tl.constexpr,
    HAS_X: tl.constexpr, HAS_Y: tl.constexpr, HAS_Z: tl.constexpr, HAS_X_BIAS: tl.constexpr,
    HAS_BIAS: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
    NEED_DK: tl.constexpr, NEED_DV: tl.constexpr, NEED_DBIAS: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """dK' = tau (dS^T X + dS2^T Q), dV' = (P*(E - mu))^T dO, dbias' = colsum(dS2)"""
    j0, head = _block_and_head(M, BLOCK_M)
    k_tile = _rows(k + head * M * D, j0, M, D, PD, BLOCK_M, EVEN)
    y_tile = _rows(y + head * M * D, j0, M, D, PD, BLOCK_M, EVEN) if HAS_Y else k_tile
    v_tile = _rows(v + head * M * DV, j0, M, DV, PDV, BLOCK_M, EVEN)
    z_tile = _rows(z + head * M * DV, j0, M, DV, PDV, BLOCK_M, EVEN) if HAS_Z else v_tile
    k_sums = tl.zeros((BLOCK_M, PD), tl.float32)
    v_sums = tl.zeros((BLOCK_M, PDV), tl.float32)
    bias_sums = tl.zeros((BLOCK_M,), tl.float32)
    begin, end = _queries_of_split(j0 // BLOCK_N * BLOCK_N if CAUSAL else 0, N, BLOCK_N)
    for i0 in range(begin, end, BLOCK_N):
        q_tile = _rows(q + head * N * D, i0, N, D, PD, BLOCK_N, EVEN)
        x_tile = _rows(x + head * N * D, i0, N, D, PD, BLOCK_N, EVEN) if HAS_X else q_tile
        do = _rows(grad_out + head * N * DV, i0, N, DV, PDV, BLOCK_N, EVEN)
        l2 = _vector(log_sum + head * N, i0, N, BLOCK_N, EVEN)
        s = _product_t(k_tile, q_tile, PRECISION) * (scale * LOG2E)
        if HAS_BIAS:
            s += (_vector(bias + head * M, j0, M, BLOCK_M) * LOG2E)[:, None]
        p = _probabilities_t(s, l2, i0, j0, N, M, CAUSAL, EVEN, BLOCK_N, BLOCK_M)
        e = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        if HAS_X:
            e = _add_product_t(e, k_tile, x_tile, PRECISION)
        if HAS_Y:
            e = _add_product_t(e, y_tile, q_tile, PRECISION)
        e = e * scale - _vector(mu + head * N, i0, N, BLOCK_N, EVEN)[None, :]
        if HAS_X_BIAS:
            e += _vector(x_bias + head * M, j0, M, BLOCK_M)[:, None]
        if NEED_DV:
            v_sums = _add_product(v_sums, p * e, do, PRECISION)
        if NEED_DK or NEED_DBIAS:
            c = _product_t(v_tile, do, PRECISION) - _vector(delta + head * N, i0, N, BLOCK_N, EVEN)[None, :]
            if NEED_DK and HAS_X:
                k_sums = _add_product(k_sums, p * c, x_tile, PRECISION)
            t = c * e - _vector(b + head * N, i0, N, BLOCK_N, EVEN)[None, :]
            if HAS_Z:
                t = _add_product_t(t, z_tile, do, PRECISION)
            if NEED_DK:
                k_sums = _add_product(k_sums, p * t, q_tile, PRECISION)
            if NEED_DBIAS:
                bias_sums += tl.sum(p * t, 1)
    to = _head_of_split(head, M, BLOCK_M)
    if NEED_DK:
        _store_rows(dk + to * M * D, k_sums * scale, j0, M, D, PD, BLOCK_M)
    if NEED_DV:
        _store_rows(dv + to * M * DV, v_sums, j0, M, DV, PDV, BLOCK_M)
    if NEED_DBIAS:
        _store_vector(dbias + to * M, bias_sums, j0, M, BLOCK_M)


# --- launches


def padded(width):
    """tl.dot takes powers of two, from 16 on."""
    return max(16, triton.next_power_of_2(width))


def blocks(kernel, widths, itemsize, precision="ieee"):
    """(BLOCK_N, BLOCK_M, warps, stages) for a kernel of TABLES and both padded widths."""
    table = TABLES[kernel]["16 bit" if itemsize == 2 else "fp32" if precision == "ieee" else "tf32"]
    total = sum(widths)
    return table[0 if total <= 64 else 1 if total <= 128 else 2 if total <= 192 else 3 if total <= 256 else 4]


def smaller(block):
    """What takes less shared memory than a block: first one stage, then half the rows; itself when it is the least."""
    block_n, block_m, warps, stages = block
    if stages > 1:
        return block_n, block_m, warps, 1
    return max(SMALLEST, block_n // 2), max(SMALLEST, block_m // 2), warps, 1


@functools.cache
def _has_room(device):
    """Whether its multiprocessors have the registers and the shared memory that blocks of tf32 products take."""
    if device.type != "cuda":
        return False  # the interpreter
    shared = triton.runtime.driver.active.utils.get_device_properties(device.index)["max_shared_mem"]
    return torch.cuda.get_device_capability(device)[0] >= 9 and shared >= 200 * 1024


def _fp32_precision():
    """ "tf32" or what else the user's setting says; no metadata of a tensor."""
    return torch.backends.cuda.matmul.fp32_precision


def _precision(q, widths):
    """How fp32 is multiplied: three products of tf32 on matrix units are as exact as fp32's own, and faster."""
    if q.dtype == torch.float32 and widths[0] <= 64 and sum(widths) <= 192 and _has_room(q.device):
        return "tf32" if _fp32_precision() == "tf32" else "tf32x3"
    return "ieee"


class _Problem:
    """What every launch of one call has in common; q, k, v (B, H, rows, width)."""

    def __init__(self, steps, q, k, v, key_bias, scale, is_causal):
        if q.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise TypeError(f"q must be float32, bfloat16 or float16 on CUDA, got {q.dtype}: use attention_reference")
        self.steps = steps
        self.q, self.k, self.v = (steps.contiguous(t) for t in (q, k, v))
        (B, H, N, D), M, DV = q.shape, k.shape[2], v.shape[3]
        self.heads, self.N, self.M = B * H, N, M
        self.widths = padded(D), padded(DV)
        self.precision = _precision(q, self.widths)
        self.common = {
            "q": self.q,
            "k": self.k,
            "v": self.v,
            "bias": self.present(key_bias),
            "scale": scale,
            "N": N,
            "M": M,
            "D": D,
            "DV": DV,
            "PD": self.widths[0],
            "PDV": self.widths[1],
            "HAS_BIAS": key_bias is not None,
            "CAUSAL": is_causal,
            "PRECISION": self.precision,
        }

    def present(self, tensor):
        """A kernel argument, or None."""
        return None if tensor is None else self.steps.contiguous(tensor)

    def new(self, like, dtype=None, wanted=True):
        dtype = dtype or like.dtype
        if not wanted:
            return self.steps.nothing(dtype, like.device)
        return self.steps.empty(tuple(like.shape), dtype, like.device)

    def launch_by_keys(self, kernel, table, results, **arguments):
        """results: (name, tensor, whether it is wanted) of the sums over queries; they end in tensor."""
        splits = self._splits(table)
        where, wanted = {name: t for name, t, _ in results}, [(name, t) for name, t, want in results if want]
        if splits > 1:
            where |= {name: self.steps.empty((splits, t.numel()), torch.float32, t.device) for name, t in wanted}
        needs = {f"NEED_{name.upper()}": want for name, _, want in results}
        self.launch(kernel, table, True, splits=splits, **where, **needs, **arguments)
        if splits > 1:
            for name, t in wanted:
                add = {"ROWS": splits, "COLS": t.numel(), "BLOCK_R": triton.next_power_of_2(splits), "BLOCK_C": 128}
                grid = (triton.cdiv(t.numel(), add["BLOCK_C"]), 1, 1)
                self.steps.launch(add_rows_kernel, grid, warps=4, rows=where[name], out=t, **add)

    def _splits(self, table):
        """Into how many pieces a sum over queries is cut: more programs where there are few; from shapes alone."""
        block_n, block_m, *_ = blocks(table, self.widths, self.q.element_size(), self.precision)
        programs = self.heads * triton.cdiv(self.M, block_m)
        if programs == 0:
            return 1
        return max(1, min(MOST_SPLITS, ENOUGH_PROGRAMS // programs, triton.cdiv(self.N, block_n) // LEAST_BLOCKS))

    def launch(self, kernel, table, by_keys, splits=1, **arguments):
        block = blocks(table, self.widths, self.q.element_size(), self.precision)
        while True:
            block_n, block_m, warps, stages = block
            programs = self.heads * (triton.cdiv(self.M, block_m) if by_keys else triton.cdiv(self.N, block_n))
            if programs == 0:
                return
            even = self.N % block_n == 0 and self.M % block_m == 0  # then nothing of a block is masked
            arguments |= {"BLOCK_N": block_n, "BLOCK_M": block_m, "EVEN": even}
            try:
                self.steps.launch(kernel, (programs, splits, 1), warps=warps, stages=stages, **self.common, **arguments)
                return
            except triton.runtime.errors.OutOfResources:  # raised before anything runs
                if smaller(block) == block:
                    raise
                block = smaller(block)


@planned(tensors=4, depends_on=_fp32_precision)
def forward(steps, q, k, v, key_bias, scale, is_causal):
    p = _Problem(steps, q, k, v, key_bias, scale, is_causal)
    out = steps.empty((*q.shape[:3], v.shape[3]), q.dtype, q.device)
    lse = steps.empty(tuple(q.shape[:3]), torch.float32, q.device)
    p.launch(attention_forward_kernel, "forward", False, out=out, lse=lse)
    return out, lse


@planned(tensors=8, depends_on=_fp32_precision)
def backward(steps, grad_out, grad_logsumexp, q, k, v, key_bias, out, logsumexp, scale, is_causal, output_mask):
    p = _Problem(steps, q, k, v, key_bias, scale, is_causal)
    need_q, need_k, need_v, need_bias = output_mask
    dq, dk, dv = (p.new(t, wanted=n) for t, n in ((q, need_q), (k, need_k), (v, need_v)))
    dbias = p.new(k[..., 0], torch.float32, need_bias)
    common = {"grad_out": p.present(grad_out), "delta": p.new(logsumexp), "log_sum": p.new(logsumexp)}
    p.launch(
        attention_backward_rows_kernel,
        "backward_rows",
        False,
        **common,
        lse=p.present(logsumexp),
        grad_lse=p.present(grad_logsumexp),
        out=p.present(out),
        dq=dq,
        NEED_DQ=need_q,
        HAS_GRAD_LSE=grad_logsumexp is not None,
    )
    if need_k or need_v or need_bias:
        results = ("dk", dk, need_k), ("dv", dv, need_v), ("dbias", dbias, need_bias)
        p.launch_by_keys(attention_backward_keys_kernel, "backward_keys", results, **common)
    return dq, dk, dv, dbias


@planned(tensors=12, depends_on=_fp32_precision)
def double_backward(
    steps, x, y, z, x_bias, grad_out, grad_logsumexp, q, k, v, key_bias, out, logsumexp, scale, is_causal, output_mask
):
    p = _Problem(steps, q, k, v, key_bias, scale, is_causal)
    need_do, need_dlse, need_q, need_k, need_v, need_bias = output_mask
    d_grad_out, dq = p.new(grad_out, wanted=need_do), p.new(q, wanted=need_q)
    dk, dv, dbias = p.new(k, wanted=need_k), p.new(v, wanted=need_v), p.new(k[..., 0], torch.float32, need_bias)
    mu, b, delta, log_sum = (p.new(logsumexp) for _ in range(4))
    common = {
        "x": p.present(x),
        "y": p.present(y),
        "z": p.present(z),
        "x_bias": p.present(x_bias),
        "grad_out": p.present(grad_out),
        "delta": delta,
        "log_sum": log_sum,
        "mu": mu,
        "b": b,
        "HAS_X": x is not None,
        "HAS_Y": y is not None,
        "HAS_Z": z is not None,
        "HAS_X_BIAS": x_bias is not None,
    }
    p.launch(
        attention_double_rows_first_kernel,
        "double_rows_first",
        False,
        **common,
        lse=p.present(logsumexp),
        grad_lse=p.present(grad_logsumexp),
        out=p.present(out),
        d_grad_out=d_grad_out,
        NEED_DDO=need_do,
        HAS_GRAD_LSE=grad_logsumexp is not None,
    )
    if need_q:
        p.launch(attention_double_rows_second_kernel, "double_rows_second", False, **common, dq=dq)
    if need_k or need_v or need_bias:
        results = ("dk", dk, need_k), ("dv", dv, need_v), ("dbias", dbias, need_bias)
        p.launch_by_keys(attention_double_keys_kernel, "double_keys", results, **common)
    return d_grad_out, mu if need_dlse else p.new(mu, wanted=False), dq, dk, dv, dbias
