"""docs/speed.md from the committed measurements: `python -m benchmarks.page`."""

import csv
from pathlib import Path

from benchmarks.papers.page import row as line

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
INTRODUCTION = """# Speed

What `make bench` measured, written by `python -m benchmarks.page` from `benchmarks/results`. Every candidate's numbers
are compared first; then all take turns, and a speed-up is the median over turns of the ratio within a turn, with the
20th and 80th percentiles behind it. Machines were shared: times are of their day, ratios are to be trusted. Tables of
different machines are of different days; the log of a file in `benchmarks/results` tells the version."""
LAYERS = """## Inside a gradient penalty

One cycle of first and second derivatives through a layer: `g = grad(f(x), x, go, create_graph=True)`, then
`grad(g, (x, go, weight), h)`, fp32, on 64 x 128 x 16 x 16 if nothing else is said. *Compiled* is torch.compile of all
of it as one function, the vjp of a vjp. No eager training loop can have that; who uses it should use it on a critic of
fastgan's layers, see below. *Beyond results*: the peak of extra memory, torch's and fastgan's, without the three
results that every implementation must allocate. *Copy*: the bytes that three passes must move over the time, as a share
of what a copy of one activation reaches on that machine at that moment.

An eager training step cannot do with fewer than three passes: forward reads one activation and writes one, backward
reads two and writes one, its backward reads three and writes two: ten in all, eight where the second derivative is
zero. The compiled function does not return the layer's output and goes through the data once, three in, three out;
but a norm has to reduce first, twice, and there fastgan is about as fast. For a curved activation the last of the three
passes is nearly all that the compiled function does, and the others come on top. Called directly on data in the first
cache, with AVX2, silu's passes take 3.8, 5.4 and 7.9 ns for 8 floats: with the same code for both, an eager step would
take twice the compiled function's time.

`gradient_penalty.csv` is from before activations became faster; `gradient_penalty_busy.csv` is of the version after it,
on another day, when whatever waits for memory took nearly twice as long, for busy neighbours it seems: fastgan's and
compiled cycles do."""
CRITIC = """## A whole critic step

WGAN-GP's ResNet-32 critic with group norm: loss, penalty, both backward passes and Adam. Convolutions dominate, so that
what is left for kernels is bounded: the rows tell memory format, precision and kernels apart. bf16 is autocast."""
COMPILED = """## The same, compiled

`fastgan.training.compile_critic_loss` makes one graph of the critic's loss with its penalty; here of a critic of
torch's layers and of one of fastgan's."""
ATTENTION = """## Attention

The cases are B, heads, queries, keys, D, Dv. *Cycle*: outputs, first and second derivatives. *Math*: softmax(q k^T) v
in plain torch, the only one of torch's that can be differentiated twice; *flash* is torch's fused one, which cannot."""
SPECTRAL = """## Spectral norm

All power iterations and normalisations of a network, forward and backward; *fused*: in one op."""
METRICS = """## Metrics

10,000 x 2048 features, against torch-fidelity's own functions."""


def page():
    lines = [INTRODUCTION, "", LAYERS]
    for path in sorted(RESULTS.glob("gradient_penalty*.csv")):
        lines += ["", *layers(read(path), path.name)]
    for path in sorted(RESULTS.glob("*/gradient_penalty*.csv")):
        lines += ["", *layers_on_gpu(read(path))]
    lines += ["", CRITIC, "", *steps(read(RESULTS / "critic_step.csv"))]
    lines += ["", COMPILED, "", *steps(read(RESULTS / "compiled_critic.csv"))]
    lines += ["", ATTENTION]
    for path in [RESULTS / "attention.csv", *sorted(RESULTS.glob("*/attention.csv"))]:
        lines += ["", *attention(read(path))]
    lines += ["", "![Time and memory of a cycle over tokens](../benchmarks/results/attention_tokens.png)"]
    lines += ["", SPECTRAL]
    for path in [RESULTS / "spectral_norm.csv", *sorted(RESULTS.glob("*/spectral_norm.csv"))]:
        lines += ["", *spectral_norm(read(path))]
    return "\n".join([*lines, "", METRICS, "", *metrics(read(RESULTS / "metrics.csv"))]) + "\n"


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def machine(rows):
    first = rows[0]
    words = [first["hardware"]]
    if "NVIDIA" not in first["hardware"]:
        words += [f"{first['threads']} threads", *([first["isa"].upper()] if "isa" in first else [])]
    return f"**{', '.join(words)}**, torch {first['torch']}"


def table(header, rows):
    return [line(cells) for cells in (header, ["---"] * len(header), *rows)]


def milliseconds(measured):
    value = float(measured["milliseconds"])
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def faster(measured):
    p20, median, p80 = (float(measured[f"speedup_{name}"]) for name in ("p20", "median", "p80"))
    return f"{median:.3g}x ({p20:.3g} .. {p80:.3g})"


def pivot(rows, *keys):
    """(values of the keys) -> implementation -> row, in the file's order."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row.get(key, "") for key in keys), {})[row["implementation"]] = row
    return found


def layers(rows, file):
    cells = []
    for (layer,), group in pivot(rows, "layer").items():
        torch, ours, compiled = (group[name] for name in ("torch", "fastgan", "torch compiled"))
        over = float(ours["milliseconds"]) / float(compiled["milliseconds"])
        memory = ", ".join(f"{float(r['workspace_mib']):.0f}" for r in (torch, ours)) + " MiB"
        times = [milliseconds(torch), milliseconds(ours), faster(ours), milliseconds(compiled)]
        cells.append([layer, *times, f"{over:.2f}", memory, f"{float(ours['copy_share']):.0%}"])
    header = ["layer", "torch", "fastgan", "", "compiled", "fastgan over it", "beyond results", "copy"]
    return [f"{machine(rows)} (`{file}`):", "", *table(header, cells)]


def layers_on_gpu(rows):
    cells = []
    for names, group in pivot(rows, "layer", "shape").items():
        torch, ours, *replayed = (group[name] for name in ("torch", "fastgan", "torch, graph", "fastgan, graph"))
        times = [milliseconds(torch), milliseconds(ours), faster(ours), *map(milliseconds, replayed)]
        cells.append([*names, *times, f"{float(replayed[1]['copy_share']):.0%}"])
    header = ["layer", "shape", "torch", "fastgan", "", "torch, graph", "fastgan, graph", "copy"]
    graph = "*graph*: replayed from a CUDA graph, without the host's part, which *copy* is about"
    return [f"{machine(rows)}; {graph}:", "", *table(header, cells)]


def steps(rows):
    words = [name for name in ("layers", "memory_format", "precision", "mode") if name in rows[0]]
    cells = [[*(row[word].replace("_", " ") for word in words), milliseconds(row), faster(row)] for row in rows]
    size = f"width {rows[0]['width']}, batch {rows[0]['batch']}"
    header = [*(word.replace("_", " ") for word in words), "a step", "faster"]
    return [f"{machine(rows)}; {size}:", "", *table(header, cells)]


def attention(rows):
    keys = [name for name in ("case", "dtype", "measure") if name in rows[0]]
    cells = []
    for names, group in pivot(rows, *keys).items():
        ours = group.pop("fastgan")
        peers = [
            f"{name} {milliseconds(row)}, {float(row['fastgan_is_faster_by']):.3g}x ({row['p20']} .. {row['p80']})"
            for name, row in group.items()
        ]
        cells.append([*names, milliseconds(ours), "; ".join(peers)])
    return [f"{machine(rows)}:", "", *table([*keys, "fastgan", "fastgan is faster than"], cells)]


def spectral_norm(rows):
    cells = []
    for (network,), group in pivot(rows, "network").items():
        ours = [group["fastgan"], group["fastgan fused"]]
        cells.append([network, milliseconds(group["torch"]), *(f"{milliseconds(r)}, {faster(r)}" for r in ours)])
    return [f"{machine(rows)}:", "", *table(["network", "torch", "fastgan", "fused"], cells)]


def metrics(rows):
    def seconds(row, name):
        return f"{float(row[name + 'seconds']):.3g} s, {row[name + 'peak_mib']} MiB"

    cells = [[row["metric"], seconds(row, "torch_fidelity_"), seconds(row, ""), faster(row)] for row in rows]
    return [f"{machine(rows)}:", "", *table(["metric", "torch-fidelity", "fastgan", "faster"], cells)]


if __name__ == "__main__":
    PAGE.write_text(page())
