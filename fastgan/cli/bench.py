"""`fastgan bench`"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

import torch

from fastgan import bench
from fastgan.cli.flags import mendable, parse


@dataclass(frozen=True)
class Bench:
    """Measure an op on this machine: time, error against float64, share of the measured ceiling; in a minute."""

    op: Literal[tuple(bench.BENCHMARKS)] = "attention"  # type: ignore[valid-type]  # the names of a table
    """The op."""

    shape: str | None = None
    """Its sizes with commas: B,H,N,M,D,Dv for attention, B,C,H,W for the others."""

    against: str = "eager"
    """What to compare with, with commas: eager, compile; both are torch's own operations."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the operands."""

    device: str | None = None
    """cpu, cuda, cuda:1, ...; by default the GPU if there is one."""

    threads: int | None = None
    """Processor threads; by default torch's choice, one for each core."""

    seconds: float = 30.0
    """For the timing; compilation and checks come before it."""

    json: bool = False
    """Print JSON, one line a number, instead of a table."""


def main(arguments: list[str]) -> None:
    flags = parse("bench", Bench(), arguments)
    with mendable(ValueError, TypeError):
        if flags.threads is not None:
            torch.set_num_threads(flags.threads)
        device = flags.device or ("cuda" if torch.cuda.is_available() else "cpu")
        shape = None if flags.shape is None else _shape(flags.shape)
        against = [name for name in flags.against.split(",") if name]
        kind = getattr(torch, flags.dtype)
        ceiling, rows = bench.bench(flags.op, shape, against=against, dtype=kind, device=device, seconds=flags.seconds)
    if flags.json:
        for row in rows:
            print(json.dumps({**asdict(row), **{f"ceiling_{k}": v for k, v in ceiling._asdict().items()}}))
        return
    where = f"{device}, {torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name(device)
    print(f"{flags.op} {'x'.join(map(str, rows[0].shape))} {flags.dtype} on {where}, torch {torch.__version__}")
    print(f"ceiling: copy {ceiling.bytes / 1e9:.3g} GB/s, matrix product {ceiling.operations / 1e9:.4g} Gflop/s")
    print(f"{'':<20}{'':<10}{'ms':>10}{'speed-up':>10}{'error':>10}{'of ceiling':>12}")
    ours = {row.measured: row.seconds for row in rows if row.implementation == "fastgan"}
    for row in rows:
        print(_line(row, ours[row.measured]))


def _line(row, ours):
    if row.seconds is None:
        return f"{row.measured:<20}{row.implementation:<10}  {row.note}"
    faster = "" if row.implementation == "fastgan" else f"{row.seconds / ours:.2f}x"
    cells = f"{1e3 * row.seconds:>10.3g}{faster:>10}{row.error:>10.1e}{100 * row.share:>11.0f}%"
    return f"{row.measured:<20}{row.implementation:<10}{cells}"


def _shape(text):
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"shape must be integers with commas, as 4,1,1024,256,32,128; got {text!r}") from None
