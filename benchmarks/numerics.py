"""How exact each op is to second order, in each dtype, against fp64; and beside what torch itself makes of it.

    python -m benchmarks.numerics [--device cuda]

Inputs are rounded to the dtype. The exact result is the reference's in fp64, from the rounded inputs. An error is
|result - exact| / |exact|, the largest of an order: the outputs, the first derivatives, the second derivatives. A
tensor that is less than 1 % of the largest exact one is measured by this 1 %. "same bits" is whether 1, 2 and 3
threads, and a second call, give the same bits in all orders. Writes benchmarks/results/numerics.csv, and on a CPU
numerics_training.csv: how far the generator's weights are from those of a run with one thread, after a few steps of a
small DCGAN.
"""

import argparse
import csv
from functools import partial

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import fastgan
from benchmarks.interleaved import hardware, results
from fastgan import ops
from fastgan.ops.normalize import BATCH
from tests.contract.bias_act import plain as torch_bias_act
from tests.contract.closeness import relative_error, smallest_norm
from tests.contract.derivatives import derivatives
from tests.contract.grad_norm_penalty import plain as torch_grad_norm_penalty

MACHINE = ("hardware", "threads", "isa", "torch", "fastgan")
COLUMNS = ("op", "inputs", "dtype", "implementation", "forward", "first", "second", "same_bits", *MACHINE)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ORDERS = {"second": "second grad of ", "first": "grad of ", "forward": ""}
THREADS = (1, 2, 3)
STEPS = 12


def torch_attention(q, k, v):
    with sdpa_kernel(SDPBackend.MATH):  # the one backend that differentiates twice
        return F.scaled_dot_product_attention(q, k, v)


def torch_l2_attention(q, k, v):
    distances = (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1)
    return (-distances * q.shape[-1] ** -0.5).softmax(-1) @ v


def torch_spectral_norm(weight, u, v):
    """One iteration in torch's order."""
    with torch.no_grad():
        u = F.normalize(weight @ v, dim=0)
        v = F.normalize(weight.T @ u, dim=0)
    return weight / (u @ (weight @ v))


def exact_normalize(x, weight, bias, groups):
    return ops.normalize_reference(x, groups, weight, bias, 1e-5)[0]


def exact_attention(q, k, v, **setting):
    return ops.attention_reference(q, k, v, **setting)


def norm(ours, torchs, groups):
    return ours, torchs, partial(exact_normalize, groups=groups)


def activation(act):
    return partial(ops.bias_act, act=act), partial(torch_bias_act, act=act), partial(ops.bias_act_reference, act=act)


OPS = {  # op -> (fastgan's, torch's, the reference for fp64)
    "attention": (ops.attention, torch_attention, exact_attention),
    "attention, L2": (
        partial(ops.attention, similarity="l2"),
        torch_l2_attention,
        partial(exact_attention, similarity="l2"),
    ),
    "group norm": norm(
        lambda x, weight, bias: ops.group_norm(x, 8, weight, bias),
        lambda x, weight, bias: F.group_norm(x, 8, weight, bias),
        8,
    ),
    "instance norm": norm(
        lambda x, weight, bias: ops.instance_norm(x, weight=weight, bias=bias),
        lambda x, weight, bias: F.instance_norm(x, None, None, weight, bias),
        32,
    ),
    "batch norm": norm(
        lambda x, weight, bias: ops.batch_norm(x, None, None, weight, bias, training=True),
        lambda x, weight, bias: F.batch_norm(x, None, None, weight, bias, True),
        BATCH,
    ),
    "bias + leaky ReLU": activation("leaky_relu"),
    "bias + SiLU": activation("silu"),
    "bias + GELU": activation("gelu"),
    "gradient penalty": (
        ops.grad_norm_penalty,
        lambda grad: torch_grad_norm_penalty(grad)[0],
        lambda grad: ops.grad_norm_penalty_reference(grad)[0],
    ),
    "spectral norm": (
        lambda weight, u, v: ops.spectral_norm([weight], [u], [v])[0][0],
        torch_spectral_norm,
        lambda weight, u, v: ops.spectral_norm_reference([weight], [u], [v])[0][0],
    ),
}
CONSTANTS = ("u", "v")  # the spectral norm's vectors


def inputs_of(op):
    """{which inputs: {name: tensor}} in fp64, an easy case, a flat one and a peaked one."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    if op.startswith("attention"):
        q, k, v = random(2, 2, 128, 32), random(2, 2, 96, 32), random(2, 2, 96, 32)
        return {name: {"q": by * q, "k": k, "v": v} for name, by in (("normal", 1), ("flat", 0.05), ("peaked", 6))}
    if op.endswith("norm") and op != "spectral norm":
        x, weight, bias = random(8, 32, 16, 16), random(32), random(32)
        outlier = x.clone()
        outlier[..., 3, 5] += 100  # one element of each plane
        return {
            name: {"x": x, "weight": weight, "bias": bias}
            for name, x in (("normal", x), ("flat", 1 + 0.05 * x), ("peaked", outlier))
        }
    if op.startswith("bias"):
        x, bias = random(8, 32, 16, 16), random(32)
        return {name: {"x": by * x, "bias": by * bias} for name, by in (("normal", 1), ("flat", 0.05), ("peaked", 6))}
    if op == "gradient penalty":
        grad = random(16, 3, 32, 32) / 30
        unit = grad / grad.flatten(1).norm(dim=1)[:, None, None, None]
        steep = grad.clone()
        steep[0] *= 100
        return {"normal": {"grad": grad}, "flat": {"grad": 1.1 * unit}, "peaked": {"grad": steep}}
    weight, u, v = random(64, 288) / 17, random(64), random(288)
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    weights = {"normal": weight, "flat": left @ right, "peaked": weight + 10 * torch.outer(left[:, 0], right[0])}
    return {name: {"weight": w, "u": F.normalize(u, dim=0), "v": F.normalize(v, dim=0)} for name, w in weights.items()}


def to_second_order(function, tensors, dtype):
    requires = [name for name in tensors if name not in CONSTANTS] + ["cotangents"]
    found = derivatives(lambda **t: {"out": function(**t)}, tensors, requires=requires, rounding=dtype)
    return {name: t.detach() for name, t in found.items()}


def errors(found, exact):
    """{order: the largest relative error}"""
    floor, left, worst = smallest_norm(exact), dict(exact), {}
    for order, prefix in ORDERS.items():
        names = [name for name in left if name.startswith(prefix)]
        worst[order] = max(relative_error(found[name], left.pop(name), floor) for name in names)
    return worst


def same_bits(function, tensors, dtype):
    """Whether all numbers of threads, and a second call, give the same bits."""
    before, runs = torch.get_num_threads(), []
    for threads in (*THREADS, THREADS[-1]):
        torch.set_num_threads(threads)
        runs.append(to_second_order(function, tensors, dtype))
    torch.set_num_threads(before)
    return all(torch.equal(bits(run[name]), bits(first)) for run in runs[1:] for name, first in runs[0].items())


def bits(t):
    return t.cpu().flatten().clone(memory_format=torch.contiguous_format).view(torch.uint8)  # a NaN is a NaN's equal


def measure(op, device, dtypes=DTYPES):
    """A dict for each row of the results."""
    ours, torchs, reference = OPS[op]
    for kind, tensors in inputs_of(op).items():
        for dtype in dtypes:
            rounded = {name: t.to(device, dtype) for name, t in tensors.items()}
            exact = to_second_order(reference, {name: t.double() for name, t in rounded.items()}, dtype)
            for implementation, function in (("fastgan", ours), ("torch", torchs)):
                worst = errors(to_second_order(function, rounded, dtype), exact)
                row = {"op": op, "inputs": kind, "dtype": str(dtype).removeprefix("torch.")}
                same = "yes" if same_bits(function, rounded, dtype) else "no"
                yield {**row, "implementation": implementation, **worst, "same_bits": same}


def trained(threads):
    """The generator's weights, one vector, after STEPS steps."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    pair = fastgan.models.create("dcgan", channels=1, resolution=32, width=16, z_dim=32, spectral_norm="both")
    recipe = fastgan.Recipe(generator_lr=2e-3, discriminator_lr=3e-3, batch_size=32, seed=0)
    data = fastgan.data.load("fashion", resolution=32)
    trainer = fastgan.Trainer(*pair, recipe, data, device="cpu", progress=False)
    trainer.fit(STEPS)
    return torch.cat([p.detach().flatten() for p in trainer.state.generator.parameters()])


def measure_training(path, machine):
    columns = ["steps", "one_run", "other_run", "distance", *MACHINE]
    one = trained(1)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for threads in (1, 2):
            distance = relative_error(trained(threads), one)
            row = [STEPS, "1 thread", f"{threads} thread{'s' if threads > 1 else ''}", f"{distance:.1e}", *machine]
            writer.writerow(row)
            print(*row[:4], flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    device = parser.parse_args().device
    machine = [
        hardware(device),
        torch.get_num_threads(),
        fastgan._library.isa(),
        torch.__version__,
        fastgan.__version__,
    ]
    with open(results(device) / "numerics.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for op in OPS:
            for row in measure(op, device):
                numbers = {order: f"{row[order]:.2e}" for order in ORDERS}
                row |= numbers | dict(zip(MACHINE, machine, strict=True))
                writer.writerow(row)
                print(*(row[name] for name in COLUMNS[:8]), flush=True)
    if device == "cpu":
        measure_training(results(device) / "numerics_training.csv", machine)


if __name__ == "__main__":
    main()
