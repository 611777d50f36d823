"""A whole WGAN-GP critic step: ResNet-32 critic with group norm, loss, penalty, both backward passes, Adam.

    python -m benchmarks.critic_step [--device cuda] [--threads N] [--width 64] [--batch 64] [--rounds 5]

The same critic with torch's layers and with fastgan's, in both memory formats, in fp32 and bf16 autocast: a row for
each of the eight. The rows separate the speed-ups by format, by precision and by kernels. Convolutions dominate.
The paper's width is 128. The numbers are compared first. Writes benchmarks/results/critic_step.csv.
"""

import argparse
import copy
import csv
from itertools import product

import torch
from torch import nn

import fastgan
from benchmarks.interleaved import hardware, interleaved, percentiles, ratio, results
from fastgan.models import create

COLUMNS = "layers memory_format precision milliseconds speedup_p20 speedup_median speedup_p80 width batch"
BASELINE = ("torch", "contiguous", "fp32")
VARIANTS = list(product(("torch", "fastgan"), ("contiguous", "channels_last"), ("fp32", "bf16")))


def plain_twin(critic):
    """The critic with torch's own layers and the same weights."""
    critic = copy.deepcopy(critic)
    for module in list(critic.modules()):
        for name, child in module.named_children():
            if isinstance(child, fastgan.nn.GroupNorm):
                plain = nn.GroupNorm(child.num_groups, child.num_channels, child.eps, device=child.weight.device)
                plain.load_state_dict(child.state_dict())
                setattr(module, name, plain)
            elif isinstance(child, fastgan.nn.BiasAct):
                setattr(module, name, nn.ReLU())
    return critic


def plain_penalty(g):
    return (g.flatten(1).norm(dim=1) - 1).square().mean()


def loss_of(critic, penalty, real, fake, mix, bf16):
    with torch.autocast(real.device.type, torch.bfloat16, enabled=bf16):
        loss = critic(fake).float().mean() - critic(real).float().mean()
        x = torch.lerp(fake, real, mix).requires_grad_()
        score = critic(x).float().sum()
    (g,) = torch.autograd.grad(score, x, create_graph=True)
    return loss + 10 * penalty(g)


def parts(variant, critic, batch):
    """(critic, penalty, batch, whether bf16) of a variant."""
    layers, memory_format, precision = variant
    twin = plain_twin(critic) if layers == "torch" else copy.deepcopy(critic)
    memory_format = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    penalty = plain_penalty if layers == "torch" else fastgan.ops.grad_norm_penalty
    real, fake, mix = batch
    batch = *(t.contiguous(memory_format=memory_format) for t in (real, fake)), mix
    return twin.to(memory_format=memory_format), penalty, batch, precision == "bf16"


def step_of(variant, critic, batch):
    critic, penalty, batch, bf16 = parts(variant, critic, batch)
    adam = torch.optim.Adam(critic.parameters(), 1e-4, betas=(0.0, 0.9))

    def step():
        adam.zero_grad(set_to_none=True)
        loss_of(critic, penalty, *batch, bf16).backward()
        adam.step()

    return step


def check(critic, batch):
    """Stops the benchmark unless fp32 gradients are those of fp64, and bf16's no worse than twice torch's bf16."""

    def gradient(critic, penalty, batch, bf16):
        loss = loss_of(critic, penalty, *batch, bf16)
        return torch.cat([g.flatten().double() for g in torch.autograd.grad(loss, list(critic.parameters()))])

    few = tuple(t[:4] for t in batch)
    exact = gradient(plain_twin(critic).double(), plain_penalty, tuple(t.double() for t in few), False)
    errors = {}
    for variant in VARIANTS:
        errors[variant] = ((gradient(*parts(variant, critic, few)) - exact).norm() / exact.norm()).item()
        allowed = 1e-4 if variant[2] == "fp32" else 2 * max(errors["torch", "contiguous", "bf16"], 1e-3)
        if not errors[variant] <= allowed:
            raise SystemExit(f"{variant}: relative error {errors[variant]:.1e}; nothing is timed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False  # fp32 rows use fp32 convolutions
    torch.manual_seed(0)
    critic = create("wgan_gp", channels=3, resolution=32, width=args.width, norm="group").discriminator.to(args.device)
    real, fake = (torch.randn(args.batch, 3, 32, 32, device=args.device).tanh() for _ in range(2))
    batch = real, fake, torch.rand(args.batch, 1, 1, 1, device=args.device)
    check(critic, batch)
    steps = {variant: step_of(variant, critic, batch) for variant in VARIANTS}
    seconds = interleaved(steps, rounds=args.rounds, seconds_per_turn=0.0)
    about = [hardware(args.device), args.threads, fastgan._library.isa(), torch.__version__, fastgan.__version__]
    with (results(args.device) / "critic_step.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS.split(), "hardware", "threads", "isa", "torch", "fastgan"])
        for variant in VARIANTS:
            milliseconds, faster = percentiles([1e3 * t for t in seconds[variant]]), ratio(seconds, BASELINE, variant)
            print(f"{' '.join(variant):32} {milliseconds!s:>26} ms {faster!s:>22} x")
            numbers = [f"{n:.4g}" for n in (milliseconds.median, faster.p20, faster.median, faster.p80)]
            writer.writerow([*variant, *numbers, args.width, args.batch, *about])


if __name__ == "__main__":
    main()
