"""Normalisation on the GPU: forward, backward, double backward, in the formulas of csrc/cpu/normalize/passes.h.

A statistics row that fits on chip is one program's (normalize_rows.py): everything is read and written once. The
others, and those of the batch, take two passes with a few numbers for each row between them (normalize_pieces.py).
Statistics and sums are fp32, fp64 for fp64; nothing is summed by atomics, and the order of every sum follows from the
shapes alone.
"""

import functools
import math
from dataclasses import dataclass

import triton
from fastgan.kernels import normalize_pieces as by_pieces
from fastgan.kernels import normalize_rows as on_chip
from fastgan.kernels.channels import (
    INSIDE,
    PLANES,
    SAMPLES,
    accumulator,
    add_rows,
    channels_are_inside,
    cut,
    laid_out,
    laid_out_like,
    rows_of_sums,
    triton_accumulator,
)
from fastgan.kernels.launch import planned

# Elements, padded, of a row that is kept on chip, and of it for a warp, while there are warps; half of both in fp64.
# Beyond these the registers do not hold a row.
LARGEST_ROW = {"forward": 8192, "backward": 4096, "double_backward": 2048}
ELEMENTS_OF_A_WARP = {"forward": 256, "backward": 256, "double_backward": 128}
MOST_WARPS = {"forward": 32, "backward": 32, "double_backward": 16}
ENOUGH_PROGRAMS = 1024  # with more rows than this, a program of normalize_rows takes several samples
PIECE_ELEMENTS, PIECE_WARPS = 1024, 4  # of a tile in normalize_pieces
FINISH_BLOCK, FINISH_WARPS = 256, 4


def row_block(op, D, S, itemsize):
    """(PD, PS, warps) of a row of D channels of S elements, or None where it does not fit on chip."""
    pd, ps, share = triton.next_power_of_2(D), triton.next_power_of_2(S), 2 if itemsize == 8 else 1
    if pd * max(2, ps) * share > LARGEST_ROW[op]:  # at one position the weights are as long as the row
        return None
    return pd, ps, min(MOST_WARPS[op], max(1, pd * ps * share // ELEMENTS_OF_A_WARP[op]))


@dataclass(frozen=True)
class _Geometry:
    """x as (N, C, S); a row is D channels of a sample or, where groups == 0, a channel of the batch."""

    N: int
    C: int
    S: int
    groups: int
    inside: bool  # the channels are contiguous
    per_sample: bool  # weights are (N, C)
    wide: bool
    itemsize: int

    @property
    def D(self):
        return self.C // self.groups if self.groups else 1

    @property
    def rows(self):
        return self.N * self.groups if self.groups else self.C

    @property
    def row_size(self):
        return self.D * self.S if self.groups else self.N * self.S

    def on_chip(self, op):
        """The block of a row that a program keeps, or None. Short runs of channels are left to tiles across rows."""
        if not self.groups or (self.inside and self.S > 1 and self.D * self.itemsize < 32):
            return None
        return row_block(op, self.D, self.S, self.itemsize)

    def pieces(self):
        """(units, their cut)."""
        if self.groups or self.per_sample:
            layout, units, P = (INSIDE if self.inside else PLANES), self.N, self.S
        else:
            layout, units, P = (INSIDE if self.inside else SAMPLES), 1, self.N * self.S
        return units, cut(self.C, P, self.S, layout, units=units, elements=PIECE_ELEMENTS, wide=self.wide)


@functools.cache
def _planned(op, N, C, S, groups, inside, per_sample, itemsize):
    """(geometry, block of a row on chip or None, units, their cut, pieces of a row)"""
    g = _Geometry(N, C, S, groups, inside, per_sample, N * C * S >= 2**31, itemsize)
    units, cut = g.pieces() if N * S else (1, None)
    return g, g.on_chip(op), units, cut, (g.D if groups else units) * (cut.pieces if cut else 0)


class _Problem:
    """What the launches of one call have in common."""

    def __init__(self, op, steps, x, weight, num_groups, eps):
        if x.dim() < 2 or x.shape[1] == 0:
            raise ValueError(f"x must be (N, C, ...) with channels, got {tuple(x.shape)}")
        if num_groups < 0 or (num_groups and x.shape[1] % num_groups):
            raise ValueError(f"num_groups must divide the {x.shape[1]} channels, or be 0 for the batch")
        self.steps, self.x, self.accumulator = steps, laid_out(steps, x), accumulator(x.dtype)
        N, C, *space = x.shape
        S = math.prod(space)
        inside = S == 1 or (not self.x.is_contiguous() and channels_are_inside(self.x))
        per_sample = weight is not None and weight.dim() == 2
        self.g, self.block, self.units, self.cut, self.entries = _planned(
            op, N, C, S, num_groups, inside, per_sample, x.element_size()
        )
        self.weight_shape = (N, C) if per_sample else (C,)
        g = self.g
        self.common = {
            "eps": eps,
            "N": N,
            "C": C,
            "S": S,
            "D": g.D,
            "GROUPS": g.groups,
            "ROWS": g.rows,
            "UNITS": self.units,
            "x": self.x,
            "gamma": self.affine("weight", weight),
            "HAS_GAMMA": weight is not None,
            "PER_SAMPLE": per_sample,
            "BATCH": g.groups == 0,
            "A": triton_accumulator(x.dtype),
        }

    def affine(self, name, t):
        """A kernel argument of the weight's shape, or None."""
        if t is None:
            return None
        if t.shape != self.weight_shape or t.dtype != self.accumulator or t.device != self.x.device:
            raise ValueError(f"{name} must be {self.weight_shape} {self.accumulator} on {self.x.device}")
        return self.steps.contiguous(t)

    def statistics(self, name, t):
        shape = (self.g.N, self.g.groups) if self.g.groups else (self.g.C,)
        if t.shape != shape or t.dtype != self.accumulator or t.device != self.x.device:
            raise ValueError(f"{name} must be {shape} {self.accumulator} on {self.x.device}")
        return self.steps.contiguous(t)

    def like(self, wanted=True):
        return self.steps.empty_like(self.x) if wanted else self.steps.nothing(self.x.dtype, self.x.device)

    def new(self, *shape):
        return self.steps.empty(shape, self.accumulator, self.x.device)

    def new_statistics(self):
        return self.new(self.g.N, self.g.groups) if self.g.groups else self.new(self.g.C)

    def zeros(self, shape):
        return self.steps.zeros(shape, self.accumulator, self.x.device)

    def no_gradient(self, wanted):
        """Of a weight, if x has no elements or if the gradient is not wanted."""
        return self.zeros(self.weight_shape) if wanted else self.nothing()

    def nothing(self):
        return self.steps.nothing(self.accumulator, self.x.device)

    def rows_of_weights(self, rows):
        """Room for a weight's gradient: (N, C), or rows of sums, which `weights` adds."""
        return self.new(rows, self.g.C) if self.g.per_sample else rows_of_sums(self.steps, rows, self.g.C, self.x)

    def weights(self, rows):
        return rows if self.g.per_sample else add_rows(self.steps, rows)

    def launch(self, kernel, programs, *, warps, **arguments):
        """With what the kernel declares of the common arguments."""
        shared = {name: self.common[name] for name in kernel.arg_names if name in self.common}
        self.steps.launch(kernel, (programs, 1, 1), warps=warps, **{**shared, **arguments})

    # --- rows on chip

    def samples_each(self, sums):
        """How many samples a program takes: one, but for weights' gradients that are sums over all."""
        g = self.g
        return triton.cdiv(g.N, max(1, ENOUGH_PROGRAMS // g.groups)) if sums and not g.per_sample else 1

    def launch_rows(self, kernel, *, each=1, **arguments):
        g, (pd, ps, warps) = self.g, self.block
        block = {"LAYOUT": INSIDE if g.inside else PLANES, "PD": pd, "PS": ps}
        self.launch(kernel, g.groups * triton.cdiv(g.N, each), warps=warps, each=each, **block, **arguments)

    # --- rows in pieces

    def sums(self, count):
        return self.new(count, self.units, self.g.C, self.cut.pieces)

    def launch_tiles(self, kernel, **arguments):
        """A pass over the activation."""
        c = self.cut
        self.launch(kernel, self.units * c.channel_blocks * c.pieces, warps=PIECE_WARPS, **c.arguments, **arguments)

    def launch_finish(self, kernel, programs, **arguments):
        """Of a row or a channel, from the sums of its pieces."""
        self.launch(kernel, programs, warps=FINISH_WARPS, pieces=self.cut.pieces, BLOCK=FINISH_BLOCK, **arguments)

    def sum_channels(self, grad, h, mean, *, has_g, has_h):
        sums = self.sums(5)
        if has_g or has_h:
            self.launch_tiles(
                by_pieces.normalize_pieces_channel_sums_kernel,
                grad=grad,
                h=h,
                mean=mean,
                sums=sums,
                HAS_G=has_g,
                HAS_H=has_h,
            )
        return sums

    def finish(self, sums, h_weight, var, *, double, has_g, has_h):
        factors = self.new(6, self.g.rows)
        self.launch_finish(
            by_pieces.normalize_pieces_finish_sums_kernel,
            self.g.rows,
            sums=sums,
            h_gamma=h_weight,
            var=var,
            factors=factors,
            entries=self.entries,
            count=self.g.row_size,
            HAS_G=has_g,
            HAS_H=has_h,
            HAS_W=h_weight is not None,
            DOUBLE=double,
        )
        return factors

    def channel_gradients(self, sums, var, factors, *, double):
        """[dgamma, dbeta], or [d_gamma]."""
        results = [self.rows_of_weights(self.units) for _ in range(1 if double else 2)]
        self.launch_finish(
            by_pieces.normalize_pieces_channel_gradients_kernel,
            triton.cdiv(self.units * self.g.C, FINISH_BLOCK),
            sums=sums,
            var=var,
            factors=factors,
            dgamma=results[0],
            dbeta=results[-1],
            DOUBLE=double,
        )
        return [self.weights(r) for r in results]


@planned(tensors=3)
def forward(steps, x, weight, bias, num_groups, eps):
    p = _Problem("forward", steps, x, weight, num_groups, eps)
    g, beta, y = p.g, p.affine("bias", bias), p.like()
    if not x.numel():
        shape = (g.N, g.groups) if g.groups else (g.C,)
        return y, p.zeros(shape), p.zeros(shape)
    mean, var = p.new_statistics(), p.new_statistics()
    affine = {"beta": beta, "HAS_BETA": bias is not None}
    if p.block:
        p.launch_rows(on_chip.normalize_rows_forward_kernel, y=y, mean_out=mean, var_out=var, **affine)
        return y, mean, var
    sums, rest = p.sums(3), p.new(g.rows)
    p.launch_tiles(by_pieces.normalize_pieces_moments_kernel, sums=sums)
    p.launch_finish(
        by_pieces.normalize_pieces_finish_moments_kernel,
        g.rows,
        sums=sums,
        mean_out=mean,
        rest_out=rest,
        var_out=var,
        P=p.cut.P,
        chunk=p.cut.tiles * p.cut.block_p,
        entries=p.entries,
        count=g.row_size,
    )
    p.launch_tiles(by_pieces.normalize_pieces_forward_kernel, mean=mean, rest=rest, var=var, y=y, **affine)
    return y, mean, var


@planned(tensors=5)
def backward(steps, grad, x, weight, mean, var, num_groups, eps, output_mask):
    need_x, need_weight, need_bias = output_mask
    need_affine = need_weight or need_bias
    p = _Problem("backward", steps, x, weight, num_groups, eps)
    if need_affine and weight is None:
        raise ValueError("weight must be there for its gradient")
    grad, mean, var = laid_out_like(steps, "grad", grad, p.x), p.statistics("mean", mean), p.statistics("var", var)
    dx = p.like(need_x)
    if not x.numel():
        return dx, p.no_gradient(need_weight), p.no_gradient(need_bias)
    dgamma = dbeta = None
    if p.block:
        each = p.samples_each(need_affine)
        if need_affine:
            dgamma, dbeta = (p.rows_of_weights(triton.cdiv(p.g.N, each)) for _ in range(2))
        p.launch_rows(
            on_chip.normalize_rows_backward_kernel,
            grad=grad,
            mean=mean,
            var=var,
            dx=dx,
            dgamma=dgamma,
            dbeta=dbeta,
            each=each,
            NEED_X=need_x,
            NEED_AFFINE=need_affine,
        )
        if need_affine:
            dgamma, dbeta = p.weights(dgamma), p.weights(dbeta)
    else:
        sums, factors = p.sum_channels(grad, None, mean, has_g=True, has_h=False), None
        if need_x:
            factors = p.finish(sums, None, var, double=False, has_g=True, has_h=False)
            p.launch_tiles(
                by_pieces.normalize_pieces_backward_kernel, grad=grad, mean=mean, var=var, factors=factors, dx=dx
            )
        if need_affine:
            dgamma, dbeta = p.channel_gradients(sums, var, factors, double=False)
    return dx, dgamma if need_weight else p.nothing(), dbeta if need_bias else p.nothing()


@planned(tensors=8)
def double_backward(steps, h, h_weight, h_bias, grad, x, weight, mean, var, num_groups, eps, output_mask):
    need_grad, need_x, need_weight = output_mask
    p = _Problem("double_backward", steps, x, weight, num_groups, eps)
    if weight is None and (need_weight or h_weight is not None or h_bias is not None):
        raise ValueError("weight must be there for its derivatives and for cotangents of its gradient")
    grad, mean, var = laid_out_like(steps, "grad", grad, p.x), p.statistics("mean", mean), p.statistics("var", var)
    h = None if h is None else laid_out_like(steps, "h", h, p.x)
    w, z = p.affine("h_weight", h_weight), p.affine("h_bias", h_bias)
    d_grad, d_x, d_gamma = p.like(need_grad), p.like(need_x), None
    need_gamma = need_weight and h is not None  # dgamma and dbeta do not depend on gamma
    if not x.numel():
        return d_grad, d_x, p.no_gradient(need_weight)
    inputs = {"h": h, "h_gamma": w, "h_beta": z, "grad": grad, "mean": mean, "var": var}
    inputs |= {"HAS_H": h is not None, "HAS_W": w is not None, "HAS_Z": z is not None}
    outputs = {"d_grad": d_grad, "d_x": d_x, "NEED_GRAD": need_grad, "NEED_X": need_x}
    if p.block:
        each = p.samples_each(need_gamma)
        if need_gamma:
            d_gamma = p.rows_of_weights(triton.cdiv(p.g.N, each))
        p.launch_rows(
            on_chip.normalize_rows_double_backward_kernel,
            **inputs,
            **outputs,
            d_gamma=d_gamma,
            each=each,
            NEED_GAMMA=need_gamma,
        )
        if need_gamma:
            d_gamma = p.weights(d_gamma)
    else:
        has = {"has_g": need_x or need_gamma, "has_h": h is not None}
        sums = p.sum_channels(grad, h, mean, **has)
        factors = p.finish(sums, w, var, double=True, **has)
        if need_grad or need_x:
            p.launch_tiles(by_pieces.normalize_pieces_double_backward_kernel, **inputs, **outputs, factors=factors)
        if need_gamma:
            (d_gamma,) = p.channel_gradients(sums, var, factors, double=True)
    return d_grad, d_x, d_gamma if need_gamma else p.no_gradient(need_weight)
