"""An activation as channels times positions: where its elements lie, how kernels cut it, how per-channel sums end.

Kernels that sum over positions leave a row of sums for each piece of the positions; `add_rows` adds the rows in a fixed
order. Nothing is summed by atomics: results are deterministic.
"""

import functools
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from fastgan.kernels.launch import Steps

# Where element (c, p) lies: c * S + p; p * C + c (channels_last); or, where the positions run through several samples
# of C planes of S elements, plane by plane.
PLANES, INSIDE, SAMPLES = 0, 1, 2
INSIDE_LAYOUT, SAMPLES_LAYOUT = tl.constexpr(INSIDE), tl.constexpr(SAMPLES)  # as kernels read them


@triton.jit
def offsets(c, p, C, S, LAYOUT: tl.constexpr, WIDE: tl.constexpr):
    """Of channels c (BLOCK_C,) and positions p (BLOCK_P,): (BLOCK_C, BLOCK_P)."""
    c, p = c[:, None], p[None, :]
    if WIDE:
        c, p = c.to(tl.int64), p.to(tl.int64)
    if LAYOUT == INSIDE_LAYOUT:
        return p * C + c
    if LAYOUT == SAMPLES_LAYOUT:
        return p // S * (C * S) + c * S + p % S
    return c * S + p


@triton.jit
def of_channels(pointer, at, mask, PRESENT: tl.constexpr, ABSENT: tl.constexpr, A: tl.constexpr):
    """A number for each channel; `ABSENT` where there are none."""
    return tl.load(pointer + at, mask=mask, other=0.0) if PRESENT else tl.full(at.shape, ABSENT, A)


@triton.jit
def add_rows_kernel(rows, out, ROWS, COLS, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    column = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    sums = tl.zeros((BLOCK_R, BLOCK_C), rows.dtype.element_ty)
    for first in range(0, ROWS, BLOCK_R):
        row = first + tl.arange(0, BLOCK_R)[:, None]
        at = row.to(tl.int64) * COLS + column[None, :]
        sums += tl.load(rows + at, mask=(row < ROWS) & (column[None, :] < COLS), other=0.0)
    tl.store(out + column, tl.sum(sums, 0), mask=column < COLS)


ADD_ROWS = {"BLOCK_R": 32, "BLOCK_C": 32}


def rows_of_sums(steps: Steps, rows: int, cols: int, like: torch.Tensor) -> torch.Tensor:
    """Room for what `add_rows` adds: (rows, cols); one row has no need of it and is (cols,)."""
    return steps.empty((cols,) if rows == 1 else (rows, cols), accumulator(like.dtype), like.device)


def add_rows(steps: Steps, rows: torch.Tensor) -> torch.Tensor:
    """The sum over the first dimension of (ROWS, COLS)."""
    if rows.dim() == 1:
        return rows
    ROWS, COLS = rows.shape
    out = steps.empty((COLS,), rows.dtype, rows.device)
    grid = (triton.cdiv(COLS, ADD_ROWS["BLOCK_C"]), 1, 1)
    steps.launch(add_rows_kernel, grid, warps=4, rows=rows, out=out, ROWS=ROWS, COLS=COLS, **ADD_ROWS)
    return out


@dataclass(frozen=True)
class Cut:
    """How `units` times C channels of P positions are cut into tiles, and how many tiles a program takes in turn."""

    C: int
    P: int
    S: int
    layout: int
    wide: bool
    block_c: int
    block_p: int
    tiles: int  # that a program takes
    pieces: int  # of the positions of a channel

    @property
    def channel_blocks(self) -> int:
        return triton.cdiv(self.C, self.block_c)

    @property
    def constants(self) -> dict[str, int]:
        return {"LAYOUT": self.layout, "WIDE": self.wide, "BLOCK_C": self.block_c, "BLOCK_P": self.block_p}

    @property
    def arguments(self) -> dict[str, int]:
        """Of a kernel that works through tiles."""
        return {"C": self.C, "P": self.P, "S": self.S, "pieces": self.pieces, "tiles": self.tiles} | self.constants


ENOUGH_PROGRAMS = 1024  # from here on a program takes several tiles


@functools.cache
def cut(C, P, S, layout, *, units=1, elements=2048, wide=False):
    """Depends on shapes alone, so that every GPU adds the same terms in the same order."""
    if layout == INSIDE:
        block_c = min(64, triton.next_power_of_2(C))
        block_p = min(triton.next_power_of_2(P), elements // block_c)
    else:
        longest = 128 if layout == SAMPLES and S < 128 else elements
        block_p = min(triton.next_power_of_2(P), longest)
        block_c = min(triton.next_power_of_2(C), elements // block_p)
    programs = units * triton.cdiv(C, block_c) * triton.cdiv(P, block_p)
    tiles = max(1, min(16, programs // ENOUGH_PROGRAMS))
    return Cut(C, P, S, layout, wide, block_c, block_p, tiles, max(1, triton.cdiv(P, block_p * tiles)))


def channels_are_inside(x: torch.Tensor) -> bool:
    """Whether x (N, C, ...) is dense with its channels inside the spatial dimensions (channels_last)."""
    return x.dim() > 2 and x.movedim(1, -1).is_contiguous()


def laid_out(steps: Steps, x: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """x as kernels read it: as it is where it is dense in one of the two layouts, else a contiguous copy."""
    return x if dim == 1 and channels_are_inside(x) else steps.contiguous(x)


def laid_out_like(steps: Steps, name: str, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """t in the memory order of x."""
    if t.shape != x.shape or t.dtype != x.dtype or t.device != x.device:
        raise ValueError(
            f"{name} must be like x, {tuple(x.shape)} {x.dtype} on {x.device};"
            f" got {tuple(t.shape)} {t.dtype} on {t.device}"
        )
    return steps.ordered_like(t, x)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def triton_accumulator(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32
