"""The tables of docs/speed.md, from the committed measurements in benchmarks/results."""

import csv
from pathlib import Path

from benchmarks.papers.page import row as line

RESULTS = Path(__file__).parent / "results"


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


def pivot(rows, *keys, implementation="implementation"):
    """(values of the keys) -> implementation -> row, in the file's order."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row.get(key, "") for key in keys), {})[row[implementation]] = row
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


def _of(function):
    """The function of a file's name: what it makes of the rows, as text."""
    return lambda name: "\n".join(function(read(RESULTS / name)))


def gpus(name):
    """The files of this name in the folders of GPUs."""
    return [str(path.relative_to(RESULTS)) for path in sorted(RESULTS.glob(f"*/{name}"))]


def four_passes(rows):
    cells = []
    routes = ("loss", "fastgan", "shared", "separate")
    for (critic, width, penalties, precision, threads), group in pivot(
        rows, "critic", "width", "penalties", "precision", "threads", implementation="route"
    ).items():
        ours = group["fastgan"]
        times = [milliseconds(group[route]) if route in group else "" for route in routes]
        counts = " / ".join(group[route]["convolutions"] for route in routes[:3] if route in group)
        over = f"{float(ours['over_loss_median']):.2f}" if ours["over_loss_median"] else ""
        name = f"{critic.replace('_', ' ')}, width {width}"
        setting = f"{precision}, {threads} thread{'s' * (threads != '1')}"
        cells.append([name, penalties, setting, ours["taken"], *times, over, _over_shared(ours), counts])
    header = ["critic", "penalties", "", "route", "loss alone", "fastgan", "shared", "separate", "over the loss alone"]
    first = rows[0]
    about = f"**{first['hardware']}, {first['isa'].upper()}**, torch {first['torch']}"
    return [f"{about}:", "", *table([*header, "faster than shared", "convolutions"], cells)]


def _over_shared(row):
    p20, median, p80 = (float(row[f"shared_over_this_{name}"]) for name in ("p20", "median", "p80"))
    return f"{median:.2f}x ({p20:.2f} .. {p80:.2f})"


def ratio_of(critic, column):
    """A median of fastgan's row in four_passes.csv, of one critic."""
    rows = read(RESULTS / "four_passes.csv")
    return float(next(r[column] for r in rows if (r["critic"], r["route"]) == (critic, "fastgan")))


def span(name, implementation="fastgan"):
    """ "1.3 to 19": the smallest and the largest speed-up of a file's rows."""
    medians = [float(row["speedup_median"]) for row in read(RESULTS / name) if row["implementation"] == implementation]
    return f"{min(medians):.2g} to {max(medians):.2g}"


def numerics(rows):
    """The errors of one device, a line for each op, kind of inputs and dtype: fastgan's / torch's."""
    cells = []
    for names, group in pivot(rows, "op", "inputs", "dtype").items():
        ours, torchs = group["fastgan"], group["torch"]
        pairs = [f"{float(ours[o]):.1e} / {float(torchs[o]):.1e}" for o in ("forward", "first", "second")]
        cells.append([*names, *pairs, f"{ours['same_bits']} / {torchs['same_bits']}"])
    header = ["op", "inputs", "dtype", "forward", "first derivatives", "second derivatives", "same bits"]
    return [f"{machine(rows)}:", "", *table(header, cells)]


def numerics_of_training(rows):
    cells = [[row["steps"], row["one_run"], row["other_run"], row["distance"]] for row in rows]
    return table(["steps", "one run", "the other run", "relative distance of the generator's weights"], cells)


def worst(dtype, order, implementation="fastgan"):
    """The largest error of all ops and inputs in numerics.csv."""
    rows = read(RESULTS / "numerics.csv")
    return max(float(r[order]) for r in rows if (r["dtype"], r["implementation"]) == (dtype, implementation))


def _over_torch(order, dtypes):
    """(fastgan's error / torch's, fastgan's row) of each row in numerics.csv; torch's NaN is an infinite error."""
    for (_, _, dtype), group in pivot(read(RESULTS / "numerics.csv"), "op", "inputs", "dtype").items():
        if dtype in dtypes:
            theirs = float(group["torch"][order])
            yield (float(group["fastgan"][order]) / theirs if theirs == theirs else 0.0), group["fastgan"]


def largest_over_torch(order, *dtypes):
    """(ratio, row): how many times torch's error fastgan's is at the most, and in which row."""
    return max(_over_torch(order, dtypes), key=lambda found: found[0])


def at_least_as_exact(order, *dtypes):
    """ "50 of 60": rows in which fastgan's error is at most 1.1 times torch's."""
    ratios = [ratio for ratio, _ in _over_torch(order, dtypes)]
    return f"{sum(ratio <= 1.1 for ratio in ratios)} of {len(ratios)}"


TABLES = {
    "numerics": _of(numerics),
    "numerics_of_training": _of(numerics_of_training),
    "worst": worst,
    "largest_over_torch": largest_over_torch,
    "at_least_as_exact": at_least_as_exact,
    "span": span,
    "four_passes": _of(four_passes),
    "ratio_of": ratio_of,
    "layers": lambda name: "\n".join(layers(read(RESULTS / name), name)),
    "layers_on_gpu": _of(layers_on_gpu),
    "steps": _of(steps),
    "attention": _of(attention),
    "spectral_norm": _of(spectral_norm),
    "metrics": _of(metrics),
    "gpus": gpus,
}
