"""What a step of the Trainer costs beside the same step written by hand: two tiny MLPs, for which only the host counts.

    python -m benchmarks.step_overhead [--blocks 30] [--steps 50]

The hand-written loop is the usual one: the hinge loss on real and generated points in one pass, fused Adam, the
generator's update with a frozen critic, a moving average by _foreach. The losses of both loops are compared first, on
the same batches and latents. Then blocks of steps of either loop take turns, in CPU time of this process.
Prints the milliseconds of a step and the ratio within a turn, and writes benchmarks/results/step_overhead.csv.
"""

import argparse
import copy
import csv
import sys
import tempfile
import time

import torch
from torch import nn

from benchmarks.interleaved import hardware, percentiles, results
from fastgan import Recipe, Trainer, randomness
from fastgan.data import Order
from fastgan.training import Callback

BATCH, WIDTH, LATENTS, NEVER = 64, 32, 2, 10**9
RECIPE = Recipe(batch_size=BATCH, generator_lr=1e-3, discriminator_lr=1e-3, spectral_norm="none")
PENALISED = Recipe(
    batch_size=BATCH, generator_lr=1e-3, discriminator_lr=1e-3, spectral_norm="none", penalties=("R1(gamma=1.0)",)
)
COLUMNS = "recipe hand_milliseconds trainer_milliseconds ratio_p20 ratio_median ratio_p80 hardware torch"


def networks():
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(LATENTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
    generator.z_dim = LATENTS
    critic = nn.Sequential(nn.Linear(2, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, 1), nn.Flatten(0))
    return generator, critic


class ByHand:
    """The loop that one would write for this pair; gamma: of R1, 0 for none."""

    def __init__(self, gamma):
        self.generator, self.critic = networks()
        self.average, self.gamma, self.step = copy.deepcopy(self.generator).requires_grad_(False), gamma, 0
        setting = {"lr": 1e-3, "betas": (0.0, 0.9), "fused": True}
        self.of_generator = torch.optim.Adam(self.generator.parameters(), **setting)
        self.of_critic = torch.optim.Adam(self.critic.parameters(), **setting)

    def __call__(self, real, z_critic, z_generator):
        self.of_critic.zero_grad(set_to_none=True)
        with torch.no_grad():
            fake = self.generator(z_critic)
        if self.gamma:
            real = real.requires_grad_()
            real_logits, fake_logits = self.critic(real), self.critic(fake)
        else:
            real_logits, fake_logits = self.critic(torch.cat([real, fake])).split(len(real))
        loss = total = torch.relu(1 - real_logits).mean() + torch.relu(1 + fake_logits).mean()
        if self.gamma:
            (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
            total = loss + self.gamma / 2 * gradient.square().sum(1).mean()
        total.backward()
        self.of_critic.step()
        self.of_generator.zero_grad(set_to_none=True)
        self.critic.requires_grad_(False)
        generator_loss = -self.critic(self.generator(z_generator)).mean()
        generator_loss.backward()
        self.critic.requires_grad_(True)
        self.of_generator.step()
        self.step += 1
        with torch.no_grad():
            weight = 1 - min(0.999, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), weight)
        return loss.detach(), generator_loss.detach()


class Turns(Callback):
    """Between blocks of the Trainer's steps, as many of the other loop."""

    def __init__(self, block, other):
        self.block, self.other, self.trainers, self.others = block, other, [], []

    def on_step(self, trainer, row):
        if trainer.state.step % self.block:
            return
        end = time.process_time()
        if trainer.state.step > self.block:  # the first block warms up
            self.trainers.append((end - self.since) / self.block)
        for _ in range(self.block):
            self.other()
        if trainer.state.step > self.block:
            self.others.append((time.process_time() - end) / self.block)
        self.since = time.process_time()


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def on_step(self, trainer, row):
        self.seen.append((trainer.values["d_loss"], trainer.values["g_loss"]))


def make(recipe, points, folder, callback):
    often = {"log_every": NEVER, "sample_every": NEVER, "checkpoint_every": NEVER}
    options = {"run_dir": folder, "device": "cpu", "progress": False, "report": False, "callbacks": [callback], **often}
    return Trainer(*networks(), recipe, points, **options)


def compare(recipe, gamma, points, folder, steps=20):
    """Errors: AssertionError if the losses of the two loops differ."""
    losses, hand, order = Losses(), ByHand(gamma), Order.of(points, recipe.seed)
    make(recipe, points, folder, losses).fit(steps)
    for step, seen in enumerate(losses.seen):
        source = randomness.generator(recipe.seed, "latents", step)
        real = points[order.take(step * BATCH, BATCH)]
        expected = hand(real, *(torch.randn(BATCH, LATENTS, generator=source) for _ in range(2)))
        torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)


def measure(recipe, gamma, points, folder, blocks, steps):
    hand = ByHand(gamma)

    def other():
        real = points[torch.randint(len(points), (BATCH,))]
        hand(real, torch.randn(BATCH, LATENTS), torch.randn(BATCH, LATENTS))

    turns = Turns(steps, other)
    make(recipe, points, folder, turns).fit(steps * (blocks + 1))
    return turns.others, turns.trainers


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--steps", type=int, default=50)
    flags = parser.parse_args(arguments)
    torch.set_num_threads(1)
    points = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    rows = []
    for name, recipe, gamma in (("hinge", RECIPE, 0), ("hinge, R1", PENALISED, 1.0)):
        with tempfile.TemporaryDirectory() as folder:
            compare(recipe, gamma, points, f"{folder}/compared")
            hand, trainer = measure(recipe, gamma, points, f"{folder}/measured", flags.blocks, flags.steps)
        times = percentiles([t / h for h, t in zip(hand, trainer, strict=True)])
        middles = [1000 * percentiles(seconds).median for seconds in (hand, trainer)]
        print(f"{name}: {middles[0]:.3f} ms by hand, {middles[1]:.3f} ms by the Trainer: {times} times")
        numbers = [*(f"{t:.4f}" for t in middles), *(f"{r:.3f}" for r in (times.p20, times.median, times.p80))]
        rows.append([name, *numbers, hardware("cpu"), torch.__version__])
    with open(results("cpu") / "step_overhead.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS.split(), *rows])


if __name__ == "__main__":
    sys.exit(main())
