"""Every recipe trains, and its first step's gradients are those of an independent, naive implementation.

The naive side is formulas and loops in plain torch on copies of the networks; it shares with the trainer the random
draws, which both make from the same seed in the order that the papers' algorithms have them.
"""

import copy
from dataclasses import replace

import pytest
import torch

from fastgan import Trainer, data, randomness
from fastgan.augment import DiffAugment
from fastgan.augment.flip_shift import flip_shift
from fastgan.data import Order
from fastgan.nn.couples_samples import couples_samples
from fastgan.training import Callback, ProgressiveSchedule, networks
from fastgan.training.recipe.presets import RECIPES
from fastgan.training.run.metrics_log import read_metrics

BATCH, WIDTH = 4, {"sngan": 16, "sagan": 16, "r3gan": 16, "mlp": 16}


def sp(t):
    return torch.log1p(torch.exp(-t.abs())) + t.clamp(min=0)


def critic_loss(name, r, f):
    return {
        "minimax": lambda: (-torch.log(torch.sigmoid(r))).mean() + (-torch.log(1 - torch.sigmoid(f))).mean(),
        "non_saturating": lambda: (-torch.log(torch.sigmoid(r))).mean() + (-torch.log(1 - torch.sigmoid(f))).mean(),
        "wasserstein": lambda: f.mean() - r.mean(),
        "least_squares": lambda: 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f**2).mean(),
        "hinge": lambda: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(),
        "relativistic": lambda: sp(f - r).mean(),
        "relativistic_paired": lambda: sp(f - r).mean(),
        "relativistic_average": lambda: (sp(-(r - f.mean())) + sp(f - r.mean())).mean() / 2,
        "relativistic_average_least_squares": lambda: (((r - f.mean() - 1) ** 2) + (f - r.mean() + 1) ** 2).mean() / 2,
        "relativistic_average_hinge": lambda: (
            ((1 - (r - f.mean())).clamp(min=0) + (1 + (f - r.mean())).clamp(min=0)).mean() / 2
        ),
    }[name]()


def generator_loss(name, f, r):
    if name.startswith("relativistic"):
        return critic_loss(name, f, r)
    return {
        "minimax": lambda: torch.log(1 - torch.sigmoid(f)).mean(),
        "non_saturating": lambda: (-torch.log(torch.sigmoid(f))).mean(),
        "wasserstein": lambda: -f.mean(),
        "least_squares": lambda: 0.5 * ((f - 1) ** 2).mean(),
        "hinge": lambda: -f.mean(),
    }[name]()


def gradient_norms(critic, x):
    (g,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    return torch.stack([sum((row**2).flatten()).sqrt() for row in g])


def drawn_places(term, real, fake):
    """Where a penalty looks at the critic's gradient, drawn in the order of the recipe's penalties."""
    name = type(term).__name__
    if name == "WGANGP":
        e = torch.rand(len(real), *[1] * (real.dim() - 1))
        return (e * real + (1 - e) * fake).requires_grad_()
    if name == "DRAGAN":
        alpha = torch.rand(len(real), *[1] * (real.dim() - 1))
        spread = ((real - real.mean()) ** 2).mean().sqrt()
        return (real + alpha * 0.5 * spread * torch.rand(real.shape)).requires_grad_()
    if name == "Consistency":
        return flip_shift(real), flip_shift(fake)
    return None


def penalty_value(term, critic, real, fake, r, f, place):
    name = type(term).__name__
    if name in ("WGANGP", "DRAGAN"):
        target = term.target if name == "WGANGP" else term.k
        return term.weight * sum((n - target) ** 2 for n in gradient_norms(critic, place)) / len(real)
    if name in ("R1", "R2"):
        x = (real if name == "R1" else fake).detach().requires_grad_()
        return term.every * term.gamma / 2 * sum(n**2 for n in gradient_norms(critic, x)) / len(x)
    if name == "LeCam":  # at the first step the averages are the batch's means
        a_r, a_f = r.mean().detach(), f.mean().detach()
        return term.weight * (((r - a_f) ** 2).mean() + ((f - a_r) ** 2).mean())
    if name == "Consistency":
        t_r, t_f = critic(torch.cat(place)).chunk(2)
        return term.real_weight * ((r - t_r) ** 2).mean() + term.fake_weight * ((f - t_f) ** 2).mean()
    if name == "CriticDrift":
        return term.weight * (r**2).mean()
    assert name == "WeightClip"  # a constraint, not a term
    return 0.0


def pack(x, count):
    if count == 1 or x is None:
        return x
    return torch.stack([torch.cat(list(x[i : i + count])) for i in range(0, len(x), count)])


class Naive:
    def __init__(self, recipe, generator, discriminator, condition):
        self.recipe, self.g, self.d, self.condition = recipe, generator, discriminator, condition

    def generate(self, z):
        return self.g(z) if self.condition is None else self.g(z, self.condition)

    def critic(self, x):
        if self.recipe.augment:
            x = DiffAugment(self.recipe.augment)(x, p=0.0 if self.recipe.augment_target else 1.0)
        if self.condition is None:
            return self.d(x)
        return self.d(x, torch.cat([self.condition] * (len(x) // len(self.condition))))

    def logits(self, real, fake):
        if couples_samples(self.d):
            return self.critic(real), self.critic(fake)
        both = self.critic(torch.cat([real, fake]))
        return both[: len(real)], both[len(real) :]

    def misjudged(self, x):
        logits = self.d.classify(x)
        return -torch.stack(
            [row[y] - torch.log(torch.exp(row).sum()) for row, y in zip(logits, self.condition, strict=True)]
        ).mean()

    def critic_gradients(self, real, z):
        recipe = self.recipe
        with torch.no_grad():
            fake = self.generate(z)
        real, fake = pack(real, recipe.pack), pack(fake, recipe.pack)
        places = [drawn_places(term, real, fake) for term in recipe.penalties]
        r, f = self.logits(real, fake)
        total = self.loss = critic_loss(recipe.loss, r, f)
        for term, place in zip(recipe.penalties, places, strict=True):
            if type(term).__name__ == "AuxiliaryClassifier":
                total = total + term.weight * (self.misjudged(real) + self.misjudged(fake))
                continue
            total = total + penalty_value(term, self.critic, real, fake, r, f, place)
        return torch.autograd.grad(total, list(self.d.parameters()), allow_unused=True)

    def generator_gradients(self, real, z):
        recipe, fake = self.recipe, self.generate(z)
        real, packed = pack(real, recipe.pack), pack(fake, recipe.pack)
        if recipe.loss.startswith("relativistic"):
            r, f = self.logits(real, packed)
        else:
            r, f = None, self.critic(packed)
        total = self.loss = generator_loss(recipe.loss, f, r)
        for term in recipe.generator_terms:
            if type(term).__name__ == "L1":
                total = total + term.weight * (fake - real).abs().sum() / fake.numel()
            elif type(term).__name__ == "AuxiliaryClassifier":
                total = total + term.weight * self.misjudged(packed)
            else:
                assert type(term).__name__ == "OrthogonalRegularization"
                for module in self.g.modules():
                    if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                        normalized = hasattr(module, "parametrizations")
                        w = (module.parametrizations.weight.original if normalized else module.weight).flatten(1)
                        gram = w @ w.T
                        total = total + term.weight * ((gram - torch.diag(torch.diag(gram))) ** 2).sum()
        return torch.autograd.grad(total, list(self.g.parameters()), allow_unused=True)


def close(ours, naive):
    for a, b in zip(ours, naive, strict=True):
        a, b = (torch.zeros(()) if t is None else t for t in (a, b))
        assert (a - b).norm() <= 2e-3 * b.norm() + 1e-6


def grads(network):
    return [None if p.grad is None else p.grad.clone() for p in network.parameters()]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_and_its_first_step_is_that_of_its_formulas(name, tmp_path):
    named = RECIPES[name]
    images = data.load(named.data)
    first = {"batch_size": BATCH, "discriminator_steps": 1, "discriminator_burst": (0, 0, 0)}
    if named.settings.progressive:
        first["progressive"] = ProgressiveSchedule(phase_images=BATCH)
    recipe = replace(named.settings, **first)
    model = networks.describe(images, named, recipe)
    model["width"] = WIDTH.get(model["name"], 8)
    generator, discriminator = networks.build(model, recipe)
    trainer = Trainer(generator, discriminator, recipe, images, run_dir=tmp_path, progress=False, device="cpu")
    trainer.schedule.at(0).enter(trainer.state)  # a growing pair begins small
    start = copy.deepcopy((generator, discriminator))
    seen = {}

    def before_critic(*_):
        seen.setdefault("d_grads", grads(discriminator))

    def after_critic(*_):
        if "middle" not in seen:
            seen["middle"] = copy.deepcopy((generator, discriminator)), torch.get_rng_state()

    def before_generator(*_):
        seen.setdefault("g_grads", grads(generator))

    class FirstValues(Callback):
        def on_step(self, trainer, row):
            seen.setdefault("values", {name: float(value) for name, value in trainer.values.items()})

    trainer.callbacks.append(FirstValues())
    trainer.state.discriminator_optimizer.register_step_pre_hook(before_critic)
    trainer.state.discriminator_optimizer.register_step_post_hook(after_critic)
    trainer.state.generator_optimizer.register_step_pre_hook(before_generator)
    trainer.fit(2)
    last = read_metrics(tmp_path / "metrics.jsonl")[-1]
    numbers = [value for value in last.values() if not isinstance(value, list)]  # of the modes that are missing
    assert all(value == value and abs(value) < 1e6 for value in numbers), last

    if recipe.unroll_steps:
        return  # its gradient is checked against finite differences in test_unroll.py
    samples, condition = images.batch(Order.of(images, recipe.seed).take(0, BATCH * recipe.pack))
    stage = trainer.schedule.at(0).stage
    if stage is not None:
        for _ in range(generator.levels - stage.level):
            samples = torch.nn.functional.avg_pool2d(samples, 2)
    condition = condition if generator.z_dim == 0 or getattr(generator, "classes", None) else None
    source = randomness.generator(recipe.seed, "latents", 0)
    zs = [torch.randn(BATCH * recipe.pack, generator.z_dim, generator=source) for _ in range(2)]
    torch.manual_seed(randomness.derive(recipe.seed, "step", 0))
    naive = Naive(recipe, *start, condition)
    close(seen["d_grads"], naive.critic_gradients(samples, zs[0]))
    assert seen["values"]["d_loss"] == pytest.approx(naive.loss.item(), rel=1e-4, abs=1e-5)
    if recipe.update == "simultaneous":
        close(seen["g_grads"], naive.generator_gradients(samples, zs[0]))
    else:
        networks_then, state = seen["middle"]
        for clip in (p for p in recipe.penalties if type(p).__name__ == "WeightClip" and p.when == "after"):
            for parameter in networks_then[1].parameters():  # the copy is of the moment before
                parameter.data = parameter.data.clamp(-clip.c, clip.c)
        torch.set_rng_state(state)
        naive = Naive(recipe, *networks_then, condition)
        close(seen["g_grads"], naive.generator_gradients(samples, zs[1]))
    assert seen["values"]["g_loss"] == pytest.approx(naive.loss.item(), rel=1e-4, abs=1e-5)
