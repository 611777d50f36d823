"""Attention against torch's: forward, forward + backward, and the cycle that a gradient penalty needs.

    python -m benchmarks.attention [--device cuda] [--threads N] [--rounds R] [--only table] [--no-compile]

"cycle" is forward, backward under create_graph, double backward with random cotangents, all gradients. "compiled math"
is the strongest peer that a user can build: the same cycle of softmax(Q K^T) V as one function, the vjp of a vjp,
through torch.compile. Compares the numbers first, prints the speed-ups and writes benchmarks/results/attention*.csv:
the table, peak memory, cost against the number of tokens (drawn as well), and two threads against one.
"""

import argparse
import csv
import itertools
import math
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

import fastgan._library
from benchmarks.interleaved import hardware, interleaved, percentiles, ratio, results

CASES = [  # B, H, N, M, D, Dv: self-attention, then SAGAN's with pooled keys at 64 x 64 and 32 x 32, then four heads
    (4, 1, 4096, 4096, 32, 32),
    (4, 1, 4096, 1024, 32, 128),
    (8, 1, 1024, 256, 32, 128),
    (8, 4, 256, 256, 64, 64),
]
TOKENS = (256, 512, 1024, 2048, 4096, 8192, 16384)


def operands(case, device, dtype=torch.float32, seed=0):
    B, H, N, M, D, Dv = case
    generator = torch.Generator().manual_seed(seed)
    shapes = [(B, H, N, D), (B, H, M, D), (B, H, M, Dv), (B, H, N, Dv), (B, H, N, D), (B, H, M, D), (B, H, M, Dv)]
    q, k, v, g, *cotangents = (torch.randn(s, generator=generator).to(device, dtype) for s in shapes)
    return [t.requires_grad_() for t in (q, k, v, g)], cotangents


def math_attention(q, k, v):
    return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v


def forward(attention, inputs, cotangents):
    with torch.no_grad():
        return [attention(*inputs[:3])]


def forward_backward(attention, inputs, cotangents):
    q, k, v, g = inputs
    out = attention(q, k, v)
    return [out, *torch.autograd.grad(out, (q, k, v), g.detach())]


def cycle(attention, inputs, cotangents):
    q, k, v, g = inputs
    out = attention(q, k, v)
    first = torch.autograd.grad(out, (q, k, v), g, create_graph=True)
    return [out, *first, *torch.autograd.grad(first, (g, q, k, v), cotangents)]


def _functional_cycle(q, k, v, g, x, y, z):
    def first(g, q, k, v):
        out, pullback = torch.func.vjp(math_attention, q, k, v)
        return pullback(g), out

    gradients, pullback, out = torch.func.vjp(first, g, q, k, v, has_aux=True)
    return out, *gradients, *pullback((x, y, z))


_compiled_cycle = torch.compile(_functional_cycle, dynamic=False)


def compiled_cycle(inputs, cotangents):
    return _compiled_cycle(*(t.detach() for t in inputs), *cotangents)


def flash(q, k, v):
    return F.scaled_dot_product_attention(q, k, v)


MEASURES = {"forward": forward, "forward+backward": forward_backward, "cycle": cycle}


def candidates(case, measure, inputs, cotangents, compiled=True):
    peers = {"fastgan": fastgan.ops.attention}
    if measure == "cycle":
        peers["eager math"] = math_attention
    else:
        peers["flash" if case[4] == case[5] else "eager math"] = flash if case[4] == case[5] else math_attention
    run = MEASURES[measure]
    functions = {name: lambda f=f: run(f, inputs, cotangents) for name, f in peers.items()}
    if measure == "cycle" and compiled:
        functions["compiled math"] = lambda: compiled_cycle(inputs, cotangents)
    return functions


def check(functions):
    expected = functions["fastgan"]()
    for name, function in functions.items():
        for ours, theirs in zip(expected, function(), strict=True):
            error = ((ours.float() - theirs).norm() / theirs.float().norm()).item()
            if not error < (1e-4 if theirs.dtype == torch.float32 else 2e-2):
                raise SystemExit(f"{name} and fastgan disagree by {error}: nothing is timed")


def environment(device):
    return {
        "hardware": hardware(device),
        "threads": torch.get_num_threads(),
        "isa": fastgan._library.isa(),
        "torch": torch.__version__,
    }


def write(name, rows, device="cpu"):
    with (results(device) / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def table(device, rounds, compiled):
    rows = []
    dtypes = ("float32", "bfloat16") if device == "cuda" else ("float32",)
    for case, dtype in itertools.product(CASES, dtypes):
        inputs, cotangents = operands(case, device, getattr(torch, dtype))
        for measure in MEASURES:
            functions = candidates(case, measure, inputs, cotangents, compiled)
            check(functions)
            seconds = interleaved(functions, rounds, seconds_per_turn=0.02 if device == "cuda" else 0.0)
            for name in functions:
                speedup = ratio(seconds, name, "fastgan")
                row = {"case": " ".join(map(str, case)), "dtype": dtype, "measure": measure, "implementation": name}
                row["milliseconds"] = f"{1e3 * percentiles(seconds[name]).median:.4g}"
                row["fastgan_is_faster_by"] = f"{speedup.median:.3g}"
                row |= {"p20": f"{speedup.p20:.3g}", "p80": f"{speedup.p80:.3g}", **environment(device)}
                rows.append(row)
                print(
                    f"{row['case']:26} {dtype:8} {measure:17} {name:14} {row['milliseconds']:>8} ms  {speedup}",
                    flush=True,
                )
            write("attention.csv", rows, device)


def extra_memory(name, case):
    """MiB that a first cycle adds to a fresh process."""
    command = [sys.executable, "-m", "benchmarks.attention", "--memory-of", name, "--case", *map(str, case)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_memory(name, case):
    attention = fastgan.ops.attention if name == "fastgan" else math_attention
    cycle(attention, *operands((1, 1, 64, 64, *case[4:]), "cpu"))
    inputs, cotangents = operands(case, "cpu")
    before = _peak()
    cycle(attention, inputs, cotangents)
    print(_peak() - before)


def _peak():
    """Peak memory of this process in MiB. getrusage would count the parent process too."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def memory():
    rows = []
    for name in ("fastgan", "eager math"):
        row = {
            "case": " ".join(map(str, CASES[0])),
            "implementation": name,
            "MiB": round(extra_memory(name, CASES[0]), 1),
        }
        rows.append(row)
        print(row, flush=True)
    write("attention_memory.csv", rows)


def against_tokens(device, rounds):
    rows = []
    for n in TOKENS:
        case = (1, 1, n, n, 32, 32)
        inputs, cotangents = operands(case, device)
        seconds = interleaved(
            {"fastgan": lambda i=inputs, c=cotangents: cycle(fastgan.ops.attention, i, c)}, min(rounds, 3), 0.0
        )
        milliseconds = 1e3 * min(seconds["fastgan"])
        row = {"tokens": n, "milliseconds": f"{milliseconds:.4g}", "ns_per_pair": f"{1e6 * milliseconds / n**2:.4g}"}
        row["MiB"] = round(extra_memory("fastgan", case), 1)
        rows.append(row)
        print(row, flush=True)
    write("attention_tokens.csv", rows)
    plot_tokens(rows)


def plot_tokens(rows):
    """Time per query-key pair (flat if time is quadratic) and memory per token (flat if memory is linear)."""
    from matplotlib.figure import Figure

    tokens = [int(row["tokens"]) for row in rows]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    for axis, title, values in zip(
        figure.subplots(1, 2),
        ("ns per pair of query and key", "KiB of extra memory per token"),
        ([float(r["ns_per_pair"]) for r in rows], [1024 * float(r["MiB"]) / int(r["tokens"]) for r in rows]),
        strict=True,
    ):
        axis.plot(tokens, values, marker="o")
        axis.set(xscale="log", xlabel="tokens", title=title, ylim=(0, None), xticks=tokens, xticklabels=tokens)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    figure.savefig(results("cpu") / "attention_tokens.png", dpi=110)


def two_threads(rounds):
    rows = []
    for case in ((1, 1, 4096, 4096, 32, 32), (4, 1, 4096, 1024, 32, 128)):
        inputs, cotangents = operands(case, "cpu")

        def with_threads(n, inputs=inputs, cotangents=cotangents):
            torch.set_num_threads(n)
            cycle(fastgan.ops.attention, inputs, cotangents)

        seconds = interleaved({"1": lambda: with_threads(1), "2": lambda: with_threads(2)}, rounds, 0.0)
        row = {"case": " ".join(map(str, case)), "two_threads_are_faster_by": f"{ratio(seconds, '1', '2').median:.3g}"}
        rows.append(row)
        print(row, flush=True)
    write("attention_threads.csv", rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=["table", "memory", "tokens", "threads"])
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled peer")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--case", type=int, nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.memory_of:
        return measure_memory(args.memory_of, tuple(args.case))
    parts = {"table": lambda: table(args.device, args.rounds, not args.no_compile)}
    if args.device == "cpu":
        parts |= {"memory": memory, "tokens": lambda: against_tokens("cpu", args.rounds)}
        parts |= {"threads": lambda: two_threads(args.rounds)}
    for name, part in parts.items():
        if args.only in (None, name):
            part()


if __name__ == "__main__":
    main()
