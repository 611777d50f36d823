"""The host's time for a cycle on tiny tensors, against eager torch.

    python -m benchmarks.host_time [--device cuda | stub] [--rounds 100]

A cycle is forward, backward with create_graph and double backward, of 2 x 4 x 2 x 2 activations (attention: 4 rows of 4
channels), so that the kernels' share is small. Candidates take turns and ratios are taken within a turn, in CPU time of
the only thread, which a busy machine disturbs less. On a GPU nothing is synchronised, so only the host's time counts.
Writes benchmarks/results/host_time.csv. The numbers are compared first.
"""

import argparse
import csv
import time
from functools import partial

import torch
import torch.nn.functional as F

import fastgan
from benchmarks import stub_driver
from benchmarks.interleaved import hardware, percentiles, results
from fastgan import ops

COLUMNS = "cycle implementation microseconds ratio_p20 ratio_median ratio_p80 bar hardware threads isa torch fastgan"
CALLS = 10  # of a candidate in a turn


# cycle -> (torch's, fastgan's, the ratio of their times to stay below)
CYCLES = {
    "bias + silu": (lambda x, w, b: F.silu(x + b[:, None, None]), lambda x, w, b: ops.bias_act(x, b, act="silu"), 0.9),
    "bias + leaky_relu": (
        lambda x, w, b: F.leaky_relu(x + b[:, None, None], 0.2),
        lambda x, w, b: ops.bias_act(x, b),
        1.25,
    ),
    "leaky_relu": (lambda x, w, b: F.leaky_relu(x, 0.2), lambda x, w, b: ops.bias_act(x), None),
    "group norm": (lambda x, w, b: F.group_norm(x, 2, w, b), lambda x, w, b: ops.group_norm(x, 2, w, b), 0.7),
    "batch statistics": (
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: ops.batch_norm(x, None, None, w, b, True),
        1.3,
    ),
    "gradient penalty": (
        lambda x, w, b: (x.flatten(1).norm(dim=1) - 1).square().mean(),
        lambda x, w, b: ops.grad_norm_penalty(x),
        None,
    ),
}


def cycle(layer, x, weight, bias, go, h):
    y = layer(x, weight, bias)
    (g,) = torch.autograd.grad(y, x, go.reshape_as(y) if y.dim() else go.flatten()[0], create_graph=True)
    return g, *torch.autograd.grad(g, (x, go, weight, bias), h, allow_unused=True)


def attention_cycle(attention, q, k, v, go, *cotangents):
    first = torch.autograd.grad(attention(q, k, v), (q, k, v), go, create_graph=True)
    return *first, *torch.autograd.grad(first, (go, q, k, v), cotangents)


def eager_attention(q, k, v):
    return (q @ k.mT * 0.5).softmax(-1) @ v


def cycles(device):
    """(name, torch's cycle, fastgan's, bar) for every op, each with its own tensors."""
    torch.manual_seed(0)
    x, go, h = (torch.randn(2, 4, 2, 2, device=device) for _ in range(3))
    weight, bias = (torch.randn(4, device=device, requires_grad=True) for _ in range(2))
    tensors = (x.requires_grad_(), weight, bias, go.requires_grad_(), h)
    for name, (plain, ours, bar) in CYCLES.items():
        yield name, partial(cycle, plain, *tensors), partial(cycle, ours, *tensors), bar
    tensors = [torch.randn(1, 1, 4, 4, device=device, requires_grad=True) for _ in range(4)]
    tensors += [torch.randn(1, 1, 4, 4, device=device) for _ in range(3)]
    yield (
        "attention",
        partial(attention_cycle, eager_attention, *tensors),
        partial(attention_cycle, ops.attention, *tensors),
        0.9,
    )


def check(name, plain, ours):
    """Stops the benchmark unless both give the same numbers."""
    for i, (want, got) in enumerate(zip(plain(), ours(), strict=True)):
        want, got = (torch.zeros(1) if t is None else t.cpu() for t in (want, got))
        if not torch.allclose(*torch.broadcast_tensors(want, got), rtol=1e-4, atol=1e-5):
            raise SystemExit(f"{name}, result {i}: not the same numbers; nothing is timed")


def take_turns(candidates, rounds):
    """Microseconds of a call in CPU time of this thread, one list of `rounds` values for each name."""
    times = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, function in candidates.items():
            start = time.thread_time()
            for _ in range(CALLS):
                function()
            times[name].append((time.thread_time() - start) / CALLS * 1e6)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda", "stub"))
    parser.add_argument("--rounds", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    stub = args.device == "stub"
    if stub:
        stub_driver.install()
    device = "cpu" if stub else args.device
    machine = [hardware(device), 1, fastgan._library.isa(), torch.__version__, fastgan.__version__]
    rows = []
    for name, plain, ours, bar in cycles(device):
        if stub and name == "gradient penalty":  # a CUDA C++ kernel, which the stub does not have
            continue
        if not stub:
            check(name, plain, ours)
        candidates = {"torch": plain, "fastgan": ours}
        take_turns(candidates, 5)
        times = take_turns(candidates, args.rounds)
        for implementation, values in times.items():
            ratio = percentiles([t / reference for t, reference in zip(values, times["torch"], strict=True)])
            print(
                f"{name:18} {implementation:8} {percentiles(values).median:7.1f} us  {ratio!s:>22} of torch's", end=""
            )
            print(f"  (bar: {bar})" if bar and implementation == "fastgan" else "", flush=True)
            numbers = (percentiles(values).median, ratio.p20, ratio.median, ratio.p80)
            rows.append([name, implementation, *(f"{n:.4g}" for n in numbers), bar or "", *machine])
    with open(results(device) / ("host_time_stub.csv" if stub else "host_time.csv"), "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS.split(), *rows])


if __name__ == "__main__":
    main()
