"""A gradient penalty in a training loop that is not fastgan's: one line, marked below.

python examples/own_loop.py [--steps 1000]
"""

import argparse
import math

import torch
from torch import nn

from fastgan.penalties import WGANGP, backward

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=500)
parser.add_argument("--width", type=int, default=64)
flags = parser.parse_args()


def mlp(inputs, outputs):
    hidden = [nn.Linear(inputs, flags.width), nn.ReLU(), nn.Linear(flags.width, flags.width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(flags.width, outputs))


def ring(count):
    """Eight narrow Gaussians on the unit circle."""
    angle = torch.randint(8, (count,)) * (2 * math.pi / 8)
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.02 * torch.randn(count, 2)


torch.manual_seed(0)
generator, critic = mlp(2, 2), mlp(2, 1)
g_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.9))
d_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
penalty = WGANGP(weight=1.0, one_sided=True)

for _ in range(flags.steps):
    for _ in range(3):
        real, fake = ring(128), generator(torch.randn(128, 2)).detach()
        d_optimizer.zero_grad()
        backward(critic, "wasserstein", [penalty], real=real, fake=fake)  # fastgan's line: loss and penalty, into .grad
        d_optimizer.step()
    g_loss = -critic(generator(torch.randn(128, 2))).mean()
    g_optimizer.zero_grad()
    g_loss.backward()
    g_optimizer.step()

with torch.no_grad():
    samples = generator(torch.randn(2000, 2))
    modes = torch.arange(8) * (2 * math.pi / 8)
    distance = torch.cdist(samples, torch.stack([modes.cos(), modes.sin()], 1))
near = distance.min(1).values < 0.2
print(f"{near.float().mean():.0%} of the samples lie near a mode, at {distance[near].argmin(1).unique().numel()} of 8")
