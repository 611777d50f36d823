"""Normalisation on the GPU: forward, backward, double backward, in the formulas of csrc/cpu/normalize/passes.h.

A statistics row that fits on chip is one program's (normalize_rows.py): everything is read and written once. The
others, and those of the batch, take two passes with a few numbers for each row between them (normalize_pieces.py).
Statistics and sums are fp32, fp64 for fp64; nothing is summed by atomics, and the order of every sum follows from the
shapes alone.
"""

import functools
import math
from dataclasses import dataclass

import torch
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
    triton_accumulator,
)
from fastgan.kernels.launch import launch

# Elements, padded, of a row that is kept on chip, and of it for a warp; half of both in fp64.
LARGEST_ROW = {"forward": 4096, "backward": 2048, "double_backward": 1024}
ELEMENTS_OF_A_WARP = {"forward": 256, "backward": 256, "double_backward": 128}
ENOUGH_PROGRAMS = 1024  # with more rows than this, a program of normalize_rows takes several samples
PIECE_ELEMENTS, PIECE_WARPS = 1024, 4  # of a tile in normalize_pieces
FINISH_BLOCK, FINISH_WARPS = 256, 4


def row_block(op, D, S, itemsize):
    """(PD, PS, warps) of a row of D channels of S elements, or None where it does not fit on chip."""
    pd, ps, share = triton.next_power_of_2(D), triton.next_power_of_2(S), 2 if itemsize == 8 else 1
    if pd * ps * share > LARGEST_ROW[op]:
        return None
    return pd, ps, max(1, pd * ps * share // ELEMENTS_OF_A_WARP[op])


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

    def __init__(self, op, x, weight, num_groups, eps):
        if x.dim() < 2 or x.shape[1] == 0:
            raise ValueError(f"x must be (N, C, ...) with channels, got {tuple(x.shape)}")
        if num_groups < 0 or (num_groups and x.shape[1] % num_groups):
            raise ValueError(f"num_groups must divide the {x.shape[1]} channels, or be 0 for the batch")
        self.x, self.eps, self.accumulator = laid_out(x), eps, accumulator(x.dtype)
        N, C, *space = x.shape
        S = math.prod(space)
        inside = S == 1 or (not self.x.is_contiguous() and channels_are_inside(self.x))
        per_sample = weight is not None and weight.dim() == 2
        self.g, self.block, self.units, self.cut, self.entries = _planned(
            op, N, C, S, num_groups, inside, per_sample, x.element_size()
        )
        self.weight_shape = (N, C) if per_sample else (C,)
        self.weight = self.affine("weight", weight)
        self.flags = {"HAS_GAMMA": weight is not None, "PER_SAMPLE": per_sample, "A": triton_accumulator(x.dtype)}

    def affine(self, name, t):
        """A kernel argument of the weight's shape; what is absent is never read, x stands in for its pointer."""
        if t is None:
            return self.x
        if t.shape != self.weight_shape or t.dtype != self.accumulator or t.device != self.x.device:
            raise ValueError(f"{name} must be {self.weight_shape} {self.accumulator} on {self.x.device}")
        return t.contiguous()

    def statistics(self, name, t):
        shape = (self.g.N, self.g.groups) if self.g.groups else (self.g.C,)
        if t.shape != shape or t.dtype != self.accumulator or t.device != self.x.device:
            raise ValueError(f"{name} must be {shape} {self.accumulator} on {self.x.device}")
        return t.contiguous()

    def like(self, wanted=True):
        return torch.empty_like(self.x) if wanted else self.x.new_empty(0)

    def new(self, *shape):
        return self.x.new_empty(shape, dtype=self.accumulator)

    def no_gradient(self, wanted):
        """Of a weight, if x has no elements or if the gradient is not wanted."""
        return self.new(*self.weight_shape).zero_() if wanted else self.new(0)

    # --- rows on chip

    def samples_each(self, sums):
        """How many samples a program takes: one, but for weights' gradients that are sums over all."""
        g = self.g
        return triton.cdiv(g.N, max(1, ENOUGH_PROGRAMS // g.groups)) if sums and not g.per_sample else 1

    def weight_rows(self, wanted, each):
        """Room for a weight's gradient: (N, C), or a row for each block of samples."""
        if not wanted:
            return self.new(0)
        return self.new(triton.cdiv(self.g.N, each), self.g.C)

    def launch_rows(self, kernel, *tensors, each, **constants):
        g, (pd, ps, warps) = self.g, self.block
        constants = {**self.flags, **constants, "LAYOUT": INSIDE if g.inside else PLANES, "PD": pd, "PS": ps}
        ints = (g.N, g.C, g.S, g.D, g.groups, each)
        launch(kernel, (g.groups * triton.cdiv(g.N, each), 1, 1), tensors, (self.eps,), ints, constants, warps)

    # --- rows in pieces

    def sums(self, count):
        return self.new(count, self.units, self.g.C, self.cut.pieces)

    def launch_tiles(self, kernel, tensors, floats, ints, **constants):
        c = self.cut
        grid, constants = (self.units * c.channel_blocks * c.pieces, 1, 1), {**constants, **c.constants}
        launch(kernel, grid, tensors, floats, (*ints, c.pieces, c.tiles), constants, PIECE_WARPS)

    def launch_finish(self, kernel, programs, tensors, floats, ints, **constants):
        constants = {**constants, "BATCH": self.g.groups == 0, "BLOCK": FINISH_BLOCK}
        launch(kernel, (programs, 1, 1), tensors, floats, ints, constants, FINISH_WARPS)

    def combine(self, kernel, *tensors, rows=(), **constants):
        """A pass that writes: of every channel's row it knows the numbers."""
        g, c = self.g, self.cut
        self.launch_tiles(
            kernel,
            tensors,
            (self.eps,),
            (*rows, g.C, c.P, c.S, g.D, g.groups),
            **self.flags,
            BATCH=g.groups == 0,
            **constants,
        )

    def sum_channels(self, grad, h, mean, *, has_g, has_h):
        g, c = self.g, self.cut
        sums = self.sums(5)
        if has_g or has_h:
            tensors, ints = (grad, h, self.x, mean, sums), (self.units, g.C, c.P, c.S, g.D, g.groups)
            self.launch_tiles(
                by_pieces.normalize_pieces_channel_sums_kernel,
                tensors,
                (),
                ints,
                HAS_G=has_g,
                HAS_H=has_h,
                BATCH=g.groups == 0,
                A=self.flags["A"],
            )
        return sums

    def finish(self, sums, h_weight, var, *, double, **has):
        g = self.g
        factors = self.new(6, g.rows)
        ints = (self.units, g.rows, g.C, g.D, self.cut.pieces, self.entries, g.row_size)
        tensors = (sums, self.weight, h_weight, var, factors)
        constants = {**self.flags, **has, "DOUBLE": double}
        self.launch_finish(
            by_pieces.normalize_pieces_finish_sums_kernel, g.rows, tensors, (self.eps,), ints, **constants
        )
        return factors

    def channel_gradients(self, sums, var, factors, *, double):
        """[dgamma, dbeta], or [d_gamma]."""
        g = self.g
        results = [self.new(self.units, g.C) for _ in range(1 if double else 2)]
        tensors = (sums, var, factors, results[0], results[-1])
        ints = (self.units, g.rows, g.C, g.D, g.groups, self.cut.pieces)
        programs = triton.cdiv(self.units * g.C, FINISH_BLOCK)
        self.launch_finish(
            by_pieces.normalize_pieces_channel_gradients_kernel,
            programs,
            tensors,
            (self.eps,),
            ints,
            DOUBLE=double,
            A=self.flags["A"],
        )
        return [r if g.per_sample else add_rows(r) for r in results]


def forward(x, weight, bias, num_groups, eps):
    p = _Problem("forward", x, weight, num_groups, eps)
    g, bias_in = p.g, p.affine("bias", bias)
    y = p.like()
    mean, var = (p.new(*((g.N, g.groups) if g.groups else (g.C,))) for _ in range(2))
    if not x.numel():
        return y, mean.zero_(), var.zero_()
    if p.block:
        p.launch_rows(
            on_chip.normalize_rows_forward_kernel,
            p.x,
            p.weight,
            bias_in,
            y,
            mean,
            var,
            each=1,
            HAS_BETA=bias is not None,
        )
        return y, mean, var
    c, sums, rest = p.cut, p.sums(3), p.new(g.rows)
    p.launch_tiles(by_pieces.normalize_pieces_moments_kernel, (p.x, sums), (), (p.units, g.C, c.P, c.S), A=p.flags["A"])
    ints = (p.units, g.C, c.P, g.D, c.pieces, c.tiles * c.block_p, p.entries, g.row_size)
    p.launch_finish(
        by_pieces.normalize_pieces_finish_moments_kernel, g.rows, (sums, mean, rest, var), (), ints, A=p.flags["A"]
    )
    p.combine(
        by_pieces.normalize_pieces_forward_kernel, p.x, p.weight, bias_in, mean, rest, var, y, HAS_BETA=bias is not None
    )
    return y, mean, var


def backward(grad, x, weight, mean, var, num_groups, eps, output_mask):
    need_x, need_weight, need_bias = output_mask
    need_affine = need_weight or need_bias
    p = _Problem("backward", x, weight, num_groups, eps)
    if need_affine and weight is None:
        raise ValueError("weight must be there for its gradient")
    grad, mean, var = laid_out_like("grad", grad, p.x), p.statistics("mean", mean), p.statistics("var", var)
    dx, none = p.like(need_x), p.new(0)
    if not x.numel():
        return dx, p.no_gradient(need_weight), p.no_gradient(need_bias)
    if p.block:
        each = p.samples_each(need_affine)
        dgamma, dbeta = (p.weight_rows(need_affine, each) for _ in range(2))
        p.launch_rows(
            on_chip.normalize_rows_backward_kernel,
            grad,
            p.x,
            p.weight,
            mean,
            var,
            dx,
            dgamma,
            dbeta,
            each=each,
            NEED_X=need_x,
            NEED_AFFINE=need_affine,
        )
        if need_affine and not p.g.per_sample:
            dgamma, dbeta = add_rows(dgamma), add_rows(dbeta)
        return dx, dgamma if need_weight else none, dbeta if need_bias else none
    sums, factors = p.sum_channels(grad, grad, mean, has_g=True, has_h=False), p.new(0)
    if need_x:
        factors = p.finish(sums, p.weight, var, double=False, HAS_G=True, HAS_H=False, HAS_W=False)
        p.combine(
            by_pieces.normalize_pieces_backward_kernel, grad, p.x, p.weight, mean, var, factors, dx, rows=(p.g.rows,)
        )
    dgamma, dbeta = p.channel_gradients(sums, var, factors, double=False) if need_affine else (none, none)
    return dx, dgamma if need_weight else none, dbeta if need_bias else none


def double_backward(h, h_weight, h_bias, grad, x, weight, mean, var, num_groups, eps, output_mask):
    need_grad, need_x, need_weight = output_mask
    p = _Problem("double_backward", x, weight, num_groups, eps)
    if weight is None and (need_weight or h_weight is not None or h_bias is not None):
        raise ValueError("weight must be there for its derivatives and for cotangents of its gradient")
    grad, mean, var = laid_out_like("grad", grad, p.x), p.statistics("mean", mean), p.statistics("var", var)
    w, z = p.affine("h_weight", h_weight), p.affine("h_bias", h_bias)
    h_like = p.x if h is None else laid_out_like("h", h, p.x)
    has = {"HAS_H": h is not None, "HAS_W": h_weight is not None}
    d_grad, d_x = p.like(need_grad), p.like(need_x)
    need_gamma = need_weight and h is not None  # dgamma and dbeta do not depend on gamma
    if not x.numel():
        return d_grad, d_x, p.no_gradient(need_weight)
    inputs = (h_like, w, z, grad, p.x, p.weight, mean, var)
    if p.block:
        each = p.samples_each(need_gamma)
        d_gamma = p.weight_rows(need_gamma, each)
        p.launch_rows(
            on_chip.normalize_rows_double_backward_kernel,
            *inputs,
            d_grad,
            d_x,
            d_gamma,
            each=each,
            **has,
            HAS_Z=h_bias is not None,
            NEED_GRAD=need_grad,
            NEED_X=need_x,
            NEED_GAMMA=need_gamma,
        )
        if need_gamma and not p.g.per_sample:
            d_gamma = add_rows(d_gamma)
    else:
        has_g = need_x or need_gamma
        sums = p.sum_channels(grad, h_like, mean, has_g=has_g, has_h=h is not None)
        factors = p.finish(sums, w, var, double=True, HAS_G=has_g, **has)
        if need_grad or need_x:
            p.combine(
                by_pieces.normalize_pieces_double_backward_kernel,
                *inputs,
                factors,
                d_grad,
                d_x,
                rows=(p.g.rows,),
                **has,
                HAS_Z=h_bias is not None,
                NEED_GRAD=need_grad,
                NEED_X=need_x,
            )
        d_gamma = p.channel_gradients(sums, var, factors, double=True)[0] if need_gamma else p.new(0)
    return d_grad, d_x, d_gamma if need_gamma else p.no_gradient(need_weight)
