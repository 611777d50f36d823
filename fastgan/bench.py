"""An op of fastgan against torch on this machine: times, errors against float64, and the share of what the machine can.

The ceilings are measured: bytes a second of a copy, operations a second of a matrix product. The least time of a pass
is that of its operands read once and its results written once, or of its matrix products, whichever is longer.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F

from fastgan import ops

Function = Callable[..., torch.Tensor]
PASSES = ("forward", "forward + backward", "cycle")
PEERS = ("eager", "compile")


@dataclass(frozen=True)
class Benchmark:
    """sizes: what the numbers of a shape mean. shape: the default. operands(shape) -> shapes of the inputs.

    ours, eager: the same function of the inputs. products(shape) -> multiplications of the forward, the backward, the
    double backward.
    """

    sizes: str
    shape: tuple[int, ...]
    operands: Callable[[Sequence[int]], list[tuple[int, ...]]]
    ours: Function
    eager: Function
    products: Callable[[Sequence[int]], tuple[int, int, int]] = lambda shape: (0, 0, 0)


def _attention_shapes(shape):
    B, H, N, M, D, Dv = shape
    return [(B, H, N, D), (B, H, M, D), (B, H, M, Dv)]


def _attention_products(shape):
    """S and O; then S, dP, dV, dQ, dK; then the twelve of the double backward's formulas, each once."""
    B, H, N, M, D, Dv = shape
    return B * H * N * M * (D + Dv), B * H * N * M * (3 * D + 2 * Dv), B * H * N * M * (7 * D + 5 * Dv)


def _eager_attention(q, k, v):
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


def _norm_shapes(shape):
    return [tuple(shape), (shape[1],), (shape[1],)]


def _groups(x):
    return math.gcd(x.shape[1], 32)


BENCHMARKS = {
    "attention": Benchmark(
        "B,H,N,M,D,Dv",
        (4, 1, 1024, 256, 32, 128),
        _attention_shapes,
        ops.attention,
        _eager_attention,
        _attention_products,
    ),
    "group_norm": Benchmark(
        "B,C,H,W",
        (16, 64, 32, 32),
        _norm_shapes,
        lambda x, weight, bias: ops.group_norm(x, _groups(x), weight, bias),
        lambda x, weight, bias: F.group_norm(x, _groups(x), weight, bias),
    ),
    "instance_norm": Benchmark(
        "B,C,H,W",
        (16, 64, 32, 32),
        _norm_shapes,
        lambda x, weight, bias: ops.instance_norm(x, weight=weight, bias=bias),
        lambda x, weight, bias: F.instance_norm(x, weight=weight, bias=bias),
    ),
    "bias_act": Benchmark(
        "B,C,H,W",
        (16, 64, 32, 32),
        lambda shape: [tuple(shape), (shape[1],)],
        lambda x, bias: ops.bias_act(x, bias, act="leaky_relu"),
        lambda x, bias: F.leaky_relu(x + bias.view(-1, 1, 1), 0.2),
    ),
    "grad_norm_penalty": Benchmark(
        "B,C,H,W",
        (64, 3, 64, 64),
        lambda shape: [tuple(shape)],
        lambda grad: ops.grad_norm_penalty(grad),
        lambda grad: (grad.flatten(1).norm(dim=1) - 1).square().mean(),
    ),
}


class Ceiling(NamedTuple):
    """What this machine does at most, measured: bytes/s of a copy, floating-point operations/s of a matrix product."""

    bytes: float
    operations: float


@dataclass(frozen=True)
class Row:
    """A measured pass of one implementation. error: of all results, relative to float64. share: least time by the
    ceilings / time. seconds, share: None for what the implementation cannot do, and `note` says why."""

    op: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    measured: str
    implementation: str
    seconds: float | None
    error: float | None
    share: float | None
    note: str = ""


class WrongNumbers(RuntimeError):
    """An implementation's error is too large, so that its time means nothing."""


def bench(
    op: str,
    shape: Sequence[int] | None = None,
    *,
    against: Sequence[str] = ("eager",),
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seconds: float = 30.0,
) -> tuple[Ceiling, list[Row]]:
    """Times of an op and of its peers, interleaved, medians; the numbers are compared with float64 first.

    op: a name in BENCHMARKS. shape: as BENCHMARKS[op].sizes says. against: "eager", "compile". seconds: for timing, in
    all. "cycle" is forward, backward with create_graph, double backward with random cotangents.
    Errors: ValueError; WrongNumbers if fastgan's error is above three times eager's and above 16 roundings.
    """
    if op not in BENCHMARKS:
        raise ValueError(f"op must be one of {', '.join(BENCHMARKS)}; got {op!r}")
    if unknown := [peer for peer in against if peer not in PEERS]:
        raise ValueError(f"against must be among {', '.join(PEERS)}; got {', '.join(unknown)}")
    about = BENCHMARKS[op]
    shape = tuple(about.shape if shape is None else shape)
    if len(shape) != len(about.shape) or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise ValueError(f"shape of {op} must be {about.sizes}, integers of at least 1; got {shape}")
    moved = sum(math.prod(operand) for operand in about.operands(shape)) * dtype.itemsize
    ceiling = measure_ceiling(device, dtype, moved)
    rows = []
    for index, measured in enumerate(PASSES):
        arguments = _operands(about, shape, device, dtype)
        exact = _run(measured, about.eager, [t.double() for t in arguments[0]], [t.double() for t in arguments[1]])
        candidates = {"fastgan": about.ours, **{name: about.eager for name in against}}
        functions: dict[str, Callable[[], Any]] = {}
        errors: dict[str, float] = {}
        notes: dict[str, str] = {}
        for name, function in candidates.items():
            run = (
                _compiled(measured, function, arguments) if name == "compile" else _plain(measured, function, arguments)
            )
            try:
                errors[name] = _error(run(), exact)
                functions[name] = run
            except Exception as problem:  # of the peer; fastgan's own are the caller's
                if name == "fastgan":
                    raise
                notes[name] = f"{type(problem).__name__}: {' '.join(str(problem).split())[:100]}"
        own = _error(_plain(measured, about.eager, arguments)(), exact)
        if not errors["fastgan"] <= max(3 * own, 16 * torch.finfo(dtype).eps):
            raise WrongNumbers(f"{op}, {measured}: error {errors['fastgan']:.2g}, eager torch has {own:.2g}")
        times = _interleaved(functions, seconds / len(PASSES), device)
        least = _least_time(about, shape, index, arguments, exact, ceiling)
        for name in candidates:
            found = times.get(name)
            share = None if found is None else least / found
            kind = str(dtype).removeprefix("torch.")
            rows.append(
                Row(op, shape, kind, device, measured, name, found, errors.get(name), share, notes.get(name, ""))
            )
    return ceiling, rows


def measure_ceiling(device: str = "cpu", dtype: torch.dtype = torch.float32, size: int = 2**28) -> Ceiling:
    """The best of several copies of `size` bytes (an op's operands: what fits the caches is copied from the caches), at
    least a megabyte, and of several matrix products."""
    large = device.startswith("cuda")
    source = torch.ones(max(size, 2**20), dtype=torch.uint8, device=device)
    target, side = torch.empty_like(source), 4096 if large else 1024
    matrix = torch.randn(side, side, device=device).to(dtype)
    copying = min(_seconds(lambda: target.copy_(source), device) for _ in range(8))
    product = min(_seconds(lambda: matrix @ matrix, device) for _ in range(8))
    return Ceiling(2 * source.numel() / copying, 2 * side**3 / product)


def _operands(about, shape, device, dtype):
    """inputs that need gradients, cotangents of: the output, each input's gradient"""
    source = torch.Generator().manual_seed(0)

    def draw(like):
        return torch.randn(like, generator=source).to(device, dtype)

    inputs = [draw(each).requires_grad_() for each in about.operands(shape)]
    with torch.no_grad():
        out = about.eager(*inputs)
    return inputs, [draw(out.shape).requires_grad_(), *(draw(t.shape) for t in inputs)]


def _plain(measured, function, arguments):
    return lambda: _run(measured, function, *arguments)


def _run(measured, function, inputs, cotangents):
    inputs = [t.detach().requires_grad_() for t in inputs]
    g, *others = cotangents
    if measured == "forward":
        with torch.no_grad():
            return [function(*inputs)]
    out = function(*inputs)
    if measured == "forward + backward":
        return [out, *torch.autograd.grad(out, inputs, g.detach())]
    g = g.detach().requires_grad_()
    first = torch.autograd.grad(out, inputs, g, create_graph=True)
    reached = [(gradient, other) for gradient, other in zip(first, others, strict=True) if gradient.requires_grad]
    gradients, given = zip(*reached, strict=True)
    second = torch.autograd.grad(gradients, (g, *inputs), given, materialize_grads=True)
    return [out, *first, *second]


def _compiled(measured, function, arguments):
    """torch.compile of the forward; of the whole cycle as the vjp of a vjp, since compiled code has no second order."""
    inputs, (g, *others) = arguments
    if measured != "cycle":
        compiled = torch.compile(function, dynamic=False)
        return lambda: _run(measured, compiled, *arguments)

    def first(g, *inputs):
        out, pullback = cast(Any, torch.func.vjp(function, *inputs))
        return pullback(g), out

    def whole(g, *rest):
        gradients, pullback, out = cast(Any, torch.func.vjp(first, g, *rest[: len(inputs)], has_aux=True))
        return out, *gradients, *pullback(rest[len(inputs) :])

    compiled = torch.compile(whole, dynamic=False)
    return lambda: compiled(g.detach(), *(t.detach() for t in inputs), *others)


def _error(given, exact):
    """|given - exact| / |exact| over all results together"""
    difference = sum(
        float((a.detach().double() - b.detach()).square().sum()) for a, b in zip(given, exact, strict=True)
    )
    return math.sqrt(difference / sum(float(b.detach().square().sum()) for b in exact))


def _least_time(about, shape, index, arguments, exact, ceiling):
    """index 0, 1, 2: forward, and with backward, and with the double backward"""
    inputs = arguments[0]
    size = inputs[0].element_size()
    given, out = sum(t.numel() for t in inputs), exact[0].numel()
    moved = [given + out, given + out + given, 2 * given + out + out + given][: index + 1]  # read + written, each pass
    work = 2 * sum(about.products(shape)[: index + 1])
    return max(size * sum(moved) / ceiling.bytes, work / ceiling.operations)


def _interleaved(functions, seconds, device):
    """name -> the median of its times; each round runs every function once"""
    times: dict[str, list[float]] = {name: [] for name in functions}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 3:
        for name, function in functions.items():
            times[name].append(_seconds(function, device))
    return {name: median(values) for name, values in times.items()}


def _seconds(function, device):
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    wait()
    begin = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - begin
