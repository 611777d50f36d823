"""Whole training steps of six published GANs: plain PyTorch against fastgan, eager, as CUDA graphs, in bf16, compiled.

    python -m benchmarks.training_step [--device cuda] [--recipes dcgan sngan ...] [--width 8] [--batch 16] [--rounds 9]

Variants, interleaved:
    torch      the same networks on torch's layers, a usual loop: autograd, fused Adam, an average by _foreach
    eager      fastgan
    graphs     fastgan, the gradients of each update as a CUDA graph (GPU only)
    bf16       fastgan, precision="bf16"; with graphs on a GPU
    compiled   fastgan, compile=True (with --compile)

The losses of torch and eager are compared first. Images are the real ones that a step shows to the discriminator.
Rows are added to results/training_step.csv; a recipe that has its rows from this machine and these versions is skipped.
"""

import argparse
import sys
from dataclasses import replace

import torch

from benchmarks.interleaved import interleaved, percentiles, ratio, results
from benchmarks.rows import Rows
from benchmarks.torch_twin import torch_twin
from fastgan import losses
from fastgan.models import create
from fastgan.nn.couples_samples import couples_samples
from fastgan.training import TrainState
from fastgan.training.add_spectral_norm import add_spectral_norm
from fastgan.training.recipe.presets import RECIPES
from fastgan.training.step.compile_critic_loss import CompiledLosses
from fastgan.training.step.ema import MovingAverage, make_average
from fastgan.training.step.graphs import CudaCapture, Graphs
from fastgan.training.step.objective import Objective, terms_of
from fastgan.training.step.precision import Precision
from fastgan.training.step.updates import alternating, eagerly

NAMES = ("dcgan", "sngan", "sagan", "wgan-gp", "r3gan", "biggan")
KEY = ("recipe", "variant", "width", "batch", "threads")
NUMBERS = ("milliseconds", "images_per_second", "speedup_p20", "speedup_median", "speedup_p80", "peak_mib")


class Usual:
    """The loop that published code has, for the losses and penalties of the six recipes."""

    def __init__(self, recipe, generator, discriminator, data):
        self.recipe, self.loss, self.data = recipe, losses.get(recipe.loss), data
        self.generator, self.discriminator = torch_twin(generator), torch_twin(discriminator)
        self.apart = couples_samples(self.discriminator)
        setting = {"betas": recipe.betas, "eps": recipe.eps, "fused": True}
        self.of_generator = torch.optim.Adam(self.generator.parameters(), recipe.generator_lr, **setting)
        self.of_discriminator = torch.optim.Adam(self.discriminator.parameters(), recipe.discriminator_lr, **setting)
        self.average, self.step = MovingAverage(make_average(self.generator), self.generator), 0

    def __call__(self):
        for _ in range(self.recipe.discriminator_steps):
            real = self.data.real()
            with torch.no_grad():
                fake = self.generator(self.data.latents())
            self.of_discriminator.zero_grad(set_to_none=True)
            total, logged = self.of_critic(real, fake)
            total.backward()
            self.of_discriminator.step()
        self.of_generator.zero_grad(set_to_none=True)
        self.discriminator.requires_grad_(False)
        fake = self.generator(self.data.latents())
        if self.loss.generator_needs_real:
            loss = self.loss.generator(self.discriminator(fake), self.discriminator(real))
        else:
            loss = self.loss.generator(self.discriminator(fake))
        total = loss + sum(term.of_generator(None, generator=self.generator)[0] for term in self.recipe.generator_terms)
        total.backward()
        self.discriminator.requires_grad_(True)
        self.of_generator.step()
        self.step += 1
        self.average.update(self.recipe.ema_decay, self.step)
        return {"d_loss": logged, "g_loss": loss.detach()}

    def of_critic(self, real, fake):
        """(loss and penalties, the loss): R1 and R2 on the forward of the loss, WGAN-GP on one of its own."""
        kinds = {type(penalty).__name__: penalty for penalty in self.recipe.penalties}
        zero_centred = "R1" in kinds
        batch = torch.cat([real, fake])
        if zero_centred:
            batch.requires_grad_()
        if self.apart:
            logits = torch.cat([self.discriminator(real), self.discriminator(fake)])
        else:
            logits = self.discriminator(batch)
        loss = total = self.loss.discriminator(*logits.chunk(2))
        if zero_centred:  # both with one gamma
            (slope,) = torch.autograd.grad(logits.sum(), batch, create_graph=True)
            total = loss + kinds["R1"].gamma / 2 * slope.square().sum((1, 2, 3)).mean() * 2
        if "WGANGP" in kinds:
            mix = torch.rand(len(real), 1, 1, 1, device=real.device)
            x = torch.lerp(fake, real, mix).requires_grad_()
            (slope,) = torch.autograd.grad(self.discriminator(x).sum(), x, create_graph=True)
            total = loss + kinds["WGANGP"].weight * (slope.flatten(1).norm(dim=1) - 1).square().mean()
        return total, loss.detach()


class Ours:
    """fastgan's step."""

    def __init__(self, recipe, generator, discriminator, data, graphs=False):
        self.recipe, self.data, self.step = recipe, data, 0
        self.state = TrainState.create(generator, discriminator, recipe)
        loss, terms = losses.get(recipe.loss), terms_of(recipe.penalties, recipe.generator_terms)
        compiled = CompiledLosses(loss, recipe.compile).of(terms) if recipe.compile else None
        autocast = Precision(recipe.precision, data.device).autocast
        self.objective = Objective(loss, terms, memory=self.state.memory, autocast=autocast, compiled=compiled)
        self.average = MovingAverage(self.state.average, self.state.generator)
        self.graphs = Graphs(CudaCapture(data.device)) if graphs else None

    def __call__(self):
        if self.graphs is None:
            return self._step(eagerly)
        with self.graphs.capture.running():
            return self._step(self.graphs.at(None, self.objective.terms))

    def _step(self, compute):
        values = alternating(
            self.state,
            self.objective,
            next_batch=lambda: (self.data.real(), None),
            next_latents=self.data.latents,
            discriminator_steps=self.recipe.discriminator_steps,
            compute=compute,
        )
        self.step += 1
        self.average.update(self.recipe.ema_decay, self.step)
        return values


class Batches:
    def __init__(self, shape, z_dim, device):
        self.shape, self.z_dim, self.device = shape, z_dim, torch.device(device)

    def real(self):
        return torch.randn(self.shape, device=self.device).tanh()

    def latents(self):
        return torch.randn(self.shape[0], self.z_dim, device=self.device)


def steps_of(name, width, batch, device, compiled):
    """variant -> a step"""
    named = RECIPES[name]
    recipe = replace(named.settings, batch_size=batch, schedules=())
    options = dict(named.options) | ({} if width is None else {"width": width})

    def pair():
        torch.manual_seed(0)
        made = create(named.model, channels=3, resolution=32, **options)
        networks = made.generator, made.discriminator
        for network in add_spectral_norm(networks, recipe):
            network.to(device, memory_format=torch.channels_last).train()
        return networks

    data = Batches((batch, 3, 32, 32), pair()[0].z_dim, device)
    cuda = device == "cuda"
    steps = {"torch": Usual(recipe, *pair(), data), "eager": Ours(recipe, *pair(), data)}
    if cuda:
        steps["graphs"] = Ours(recipe, *pair(), data, graphs=True)
    steps["bf16"] = Ours(replace(recipe, precision="bf16"), *pair(), data, graphs=cuda)
    if compiled:
        steps["compiled"] = Ours(replace(recipe, compile=True), *pair(), data)
    return recipe, steps


def check(name, steps):
    """Stops the benchmark unless the first step's losses are those of plain PyTorch."""
    found = []
    for variant in ("torch", "eager"):
        torch.manual_seed(1)
        values = steps[variant]()
        found.append({key: values[key] for key in ("d_loss", "g_loss")})
    torch.testing.assert_close(*found, rtol=2e-2, atol=2e-2, msg=lambda said: f"{name}: {said}")


def peak(step):
    """MiB that a step allocates at most on the GPU; empty on a CPU."""
    if not torch.cuda.is_available():
        return ""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return f"{(torch.cuda.max_memory_allocated() - before) / 2**20:.1f}"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--recipes", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--width", type=int, help="of the networks; by default the architecture's own")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", help="the CSV; by default in benchmarks/results")
    flags = parser.parse_args(arguments)
    torch.set_num_threads(flags.threads)
    out = flags.out or results(flags.device) / "training_step.csv"
    rows = Rows(out, KEY, NUMBERS, flags.device)
    for name in flags.recipes:
        about = (flags.width or "own", flags.batch, flags.threads)
        wanted = ["torch", "eager", "bf16", *["graphs"] * (flags.device == "cuda"), *["compiled"] * flags.compile]
        if all((name, variant, *about) in rows for variant in wanted):
            print(f"{name}: is there")
            continue
        recipe, steps = steps_of(name, flags.width, flags.batch, flags.device, flags.compile)
        with Precision("fp32", torch.device(flags.device)).switched():
            check(name, steps)
            for step in steps.values():  # what is captured and compiled
                for _ in range(4):
                    step()
            memory = {variant: peak(step) for variant, step in steps.items()}
            seconds = interleaved(steps, rounds=flags.rounds, seconds_per_turn=0.2)
        for variant in steps:
            middle, faster = percentiles(seconds[variant]).median, ratio(seconds, "torch", variant)
            images = flags.batch * recipe.discriminator_steps / middle
            numbers = (1e3 * middle, images, faster.p20, faster.median, faster.p80)
            print(f"{name} {variant}: {1e3 * middle:.2f} ms, {images:.0f} images/s, {faster} times, {memory[variant]}")
            rows.add((name, variant, *about), (*(f"{n:.4g}" for n in numbers), memory[variant]))


if __name__ == "__main__":
    sys.exit(main())
