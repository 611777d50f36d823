"""What a gradient penalty does inside a critic's norm and activation layers: one cycle of first and second derivatives.

    python -m benchmarks.gradient_penalty [--device cuda] [--channels-last] [--no-compile] [--shape N C H W]

g = grad(f(x), x, go, create_graph=True), then grad(g, (x, go, weight), h), fp32, on 64 x 128 x 16 x 16 (on a GPU also
on 64 x 256 x 64 x 64, so large that launches do not count), against torch's own functions, run eagerly and
as one compiled function (the vjp of a vjp, which no eager training loop is).
Prints times, speed-ups, peak extra memory (the three results, which every implementation needs, and the memory
beyond them) and the share of the machine's copy bandwidth that the counted bytes reach, and writes them to
benchmarks/results/gradient_penalty.csv. The numbers are compared first.
"""

import argparse
import csv
import math
from functools import partial

import torch
import torch.nn.functional as F

import fastgan
from benchmarks.interleaved import hardware, interleaved, percentiles, ratio, results
from fastgan import ops

SHAPES = {"cpu": [(64, 128, 16, 16)], "cuda": [(64, 128, 16, 16), (64, 256, 64, 64)]}
COLUMNS = (
    "layer shape memory_format implementation milliseconds speedup_p20 speedup_median speedup_p80 peak_mib"
    " workspace_mib copy_share"
)


def torch_bias_act(act):
    return lambda x, weight, bias: act(x + bias[:, None, None])


def fastgan_bias_act(act, **setting):
    return lambda x, weight, bias: ops.bias_act(x, bias, act=act, **setting)


# layer -> (torch's, fastgan's, tensors that three passes read and write at the least, speed-up asked). A norm: x -> y;
# x, g -> dx; x, g, h -> dg, dx2. A curved activation likewise; a flat one does without g at second order.
LAYERS = {
    "group norm (32)": (
        lambda x, w, b: F.group_norm(x, 32, w, b),
        lambda x, w, b: ops.group_norm(x, 32, w, b),
        10,
        6,
    ),
    "instance norm": (
        lambda x, w, b: F.instance_norm(x, None, None, w, b),
        lambda x, w, b: ops.instance_norm(x, None, None, w, b),
        10,
        8,
    ),
    "batch statistics": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: ops.batch_norm(x, None, None, w, b, True),
        10,
        5,
    ),
    "group norm (1)": (lambda x, w, b: F.group_norm(x, 1, w, b), lambda x, w, b: ops.group_norm(x, 1, w, b), 10, 4),
    "bias + silu": (torch_bias_act(F.silu), fastgan_bias_act("silu"), 10, 3),
    "bias + gelu": (torch_bias_act(F.gelu), fastgan_bias_act("gelu"), 10, 3),
    "bias + leaky_relu": (
        torch_bias_act(partial(F.leaky_relu, negative_slope=0.2)),
        fastgan_bias_act("leaky_relu"),
        8,
        1.2,
    ),
}


def inputs(shape, device, memory_format):
    torch.manual_seed(0)
    x, go, h = (torch.randn(shape, device=device).contiguous(memory_format=memory_format) for _ in range(3))
    weight, bias = (torch.randn(shape[1], device=device, requires_grad=True) for _ in range(2))
    return x.requires_grad_(), weight, bias, go.requires_grad_(), h


def cycle(layer, x, weight, bias, go, h):
    (g,) = torch.autograd.grad(layer(x, weight, bias), x, go, create_graph=True)
    return g, *torch.autograd.grad(g, (x, go, weight), h, allow_unused=True)


def compiled_cycle(layer):
    """The same as one function, the vjp of a vjp, which torch.compile can fuse from end to end."""

    def both(x, weight, bias, go, h):
        def first(x, go, weight):
            return torch.func.vjp(lambda x: layer(x, weight, bias), x)[1](go)[0]

        g, pull = torch.func.vjp(first, x, go, weight)
        return g, *pull(h)

    compiled = torch.compile(both, fullgraph=True)
    return lambda *args: compiled(*(t.detach() for t in args))


def graphed_cycle(layer, args):
    """The same replayed from a CUDA graph: what the kernels take, without the host's part."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            cycle(layer, *args)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = cycle(layer, *args)

    def replay(*_):
        graph.replay()
        return results

    return replay


def check(cycles, args):
    """Stops the benchmark unless every implementation gives what torch gives in fp64."""
    exact = cycles["torch"](*(t.detach().double().requires_grad_(t.requires_grad) for t in args))
    for name, run in cycles.items():
        for i, (got, want) in enumerate(zip(run(*args), exact, strict=True)):
            got, want = (torch.zeros(1, device=args[0].device) if t is None else t for t in (got, want))
            error = (got.double() - want).norm() / want.norm().clamp_min(1)
            if not error < 1e-5:
                raise SystemExit(f"{name}, output {i}: relative error {error:.1e}; nothing is timed")


def peak_extra_bytes(function):
    """Peak bytes that a call allocates, its results included."""
    function()
    device = torch.cuda.is_available() and torch.cuda.memory_allocated() > 0
    if device:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        return torch.cuda.max_memory_allocated() - before
    fastgan._library.peak_output_bytes()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        function()
    live = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    # torch's profiler does not see the blocks of fastgan's outputs; the sum of the two peaks is at least the whole's.
    return peak + fastgan._library.peak_output_bytes()


def result_bytes(function):
    return sum(t.nbytes for t in function() if t is not None)


def measure(shape, args, memory_format):
    tensors, rows = inputs(shape, args.device, memory_format), []
    for layer, (plain, ours, passes, asked) in LAYERS.items():
        cycles = {"torch": partial(cycle, plain), "fastgan": partial(cycle, ours)}
        if not args.no_compile:
            cycles["torch compiled"] = compiled_cycle(plain)
        if args.device == "cuda":
            cycles |= {"torch, graph": graphed_cycle(plain, tensors), "fastgan, graph": graphed_cycle(ours, tensors)}
        check(cycles, tensors)
        calls = {name: partial(run, *tensors) for name, run in cycles.items()}
        # a graph allocates its memory when it is captured
        memory = {name: math.nan if "graph" in name else peak_extra_bytes(call) for name, call in calls.items()}
        workspace = {name: memory[name] - result_bytes(call) for name, call in calls.items()}
        # The copy takes its turns as well: 2 tensors moved at the speed that the machine has at that moment.
        seconds = interleaved({**calls, "copy": tensors[0].detach().clone}, rounds=args.rounds, seconds_per_turn=0.02)
        for name in cycles:
            milliseconds, faster = percentiles([1e3 * t for t in seconds[name]]), ratio(seconds, "torch", name)
            share = passes / 2 * ratio(seconds, "copy", name).median
            print(
                f"{layer:18} {name:15} {milliseconds!s:>24} ms {faster!s:>22} x  {memory[name] / 2**20:6.1f} MiB"
                f" ({workspace[name] / 2**20:.1f} beyond the results)"
                f"  {share:5.0%} of copy bandwidth" + (f"  (asked: {asked} x)" if name == "fastgan" else "")
            )
            format_name = "channels_last" if args.channels_last else "contiguous"
            numbers = (
                milliseconds.median,
                faster.p20,
                faster.median,
                faster.p80,
                memory[name] / 2**20,
                workspace[name] / 2**20,
                share,
            )
            rows.append([layer, "x".join(map(str, shape)), format_name, name, *(f"{n:.4g}" for n in numbers)])
    size = tensors[0].nbytes / 2**20
    print(f"one activation, {shape}: {size:.1f} MiB; bytes counted: the passes of a cycle times that", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument(
        "--no-compile", action="store_true", help="leave out the compiled peer (compiling takes minutes)"
    )
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--shape", type=int, nargs=4)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    rows = []
    for shape in SHAPES[args.device] if args.shape is None else [tuple(args.shape)]:
        rows += measure(shape, args, memory_format)

    about = [hardware(args.device), args.threads, fastgan._library.isa(), torch.__version__, fastgan.__version__]
    name = "gradient_penalty_channels_last.csv" if args.channels_last else "gradient_penalty.csv"
    with (results(args.device) / name).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS.split(), "hardware", "threads", "isa", "torch", "fastgan"])
        writer.writerows([*row, *about] for row in rows)


if __name__ == "__main__":
    main()
