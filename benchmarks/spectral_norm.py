"""Spectral norm of three critics, fastgan against torch's parametrization: forward and backward of all weights.

    python -m benchmarks.spectral_norm [--device cuda] [--threads N]

Prints the speed-up and writes it to benchmarks/results/spectral_norm.csv. The numbers are compared first.
"""

import argparse
import csv
import math
from functools import partial
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils import parametrizations

import fastgan
from benchmarks.interleaved import hardware, interleaved, percentiles, ratio, results


class Critic(nn.Module):
    """The layers of a critic; forward reads every weight once and does nothing else."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self):
        return [layer.weight for layer in self.layers]


def dcgan_64():
    """Radford et al., 2016: 64 x 64 images, 64 channels."""
    return [*(nn.Conv2d(i, o, 4, 2, 1) for i, o in pairwise([3, 64, 128, 256, 512])), nn.Conv2d(512, 1, 4)]


def residual_critic(channels, classes=0):
    """Four residual blocks for 32 x 32 images; the first two shrink, and so have a 1 x 1 shortcut."""
    layers = []
    for block in range(4):
        first = 3 if block == 0 else channels
        layers += [nn.Conv2d(first, channels, 3, padding=1), nn.Conv2d(channels, channels, 3, padding=1)]
        layers += [nn.Conv2d(first, channels, 1)] if block < 2 else []
    return [*layers, nn.Linear(channels, 1), *([nn.Embedding(classes, channels)] if classes else [])]


NETWORKS = {
    "dcgan-64": dcgan_64,
    "sngan-resnet-32": lambda: residual_critic(128),  # Miyato et al., 2018
    "biggan-64ch-32": lambda: residual_critic(256, classes=10),  # Brock et al., 2019: 4 * 64 channels
}


def build(network, spectral_norm, device):
    torch.manual_seed(0)
    return Critic([spectral_norm(layer) for layer in network()]).to(device)


def step(model, cotangents):
    for parameter in model.parameters():
        parameter.grad = None
    torch.autograd.backward(model(), cotangents)


def candidates(network, device):
    models = {
        "torch": build(network, parametrizations.spectral_norm, device),
        "fastgan": build(network, fastgan.nn.spectral_norm, device),
        "fastgan fused": fastgan.nn.fuse_spectral_norm(build(network, fastgan.nn.spectral_norm, device)),
    }
    return models, [torch.randn_like(weight) for weight in models["torch"]()]


def check(models, cotangents):
    """Stops the benchmark unless all give the same weights and gradients."""
    expected = models["torch"]
    for model in models.values():
        model.load_state_dict(expected.state_dict())
    for model in models.values():
        step(model, cotangents)
    for name, model in models.items():
        for theirs, ours in zip(expected.parameters(), model.parameters(), strict=True):
            if theirs.grad is not None:
                torch.testing.assert_close(
                    ours.grad, theirs.grad, rtol=1e-4, atol=1e-4 * theirs.grad.abs().max().item()
                )
        for theirs, ours in zip(expected.buffers(), model.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    rows, fused = [], []
    for network_name, network in NETWORKS.items():
        models, cotangents = candidates(network, args.device)
        check(models, cotangents)
        seconds = interleaved(
            {name: partial(step, model, cotangents) for name, model in models.items()}, rounds=args.rounds
        )
        for name, times in seconds.items():
            milliseconds, faster = percentiles([1e3 * t for t in times]), ratio(seconds, "torch", name)
            fused += [faster.median] if name == "fastgan fused" else []
            print(f"{network_name:16} {name:14} {milliseconds!s:>22} ms   {faster!s:>20} x")
            rows.append([network_name, name, milliseconds.median, faster.p20, faster.median, faster.p80])
    mean = math.prod(fused) ** (1 / len(fused))
    print(f"fused, geometric mean {mean:.2f} x, worst {min(fused):.2f} x")

    with (results(args.device) / "spectral_norm.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "network",
                "implementation",
                "milliseconds",
                "speedup_p20",
                "speedup_median",
                "speedup_p80",
                "hardware",
                "threads",
                "isa",
                "torch",
                "fastgan",
            ]
        )
        about = [hardware(args.device), args.threads, fastgan._library.isa(), torch.__version__, fastgan.__version__]
        for network_name, name, *numbers in rows:
            writer.writerow([network_name, name, *(f"{n:.4g}" for n in numbers), *about])


if __name__ == "__main__":
    main()
