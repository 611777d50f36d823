"""A critic's loss with a gradient penalty, gradients included: penalties.backward against loops in plain torch.

    python -m benchmarks.four_passes [--cases conv_r1 ...] [--threads 1 2] [--precisions fp32 bf16] [--device cuda]
                                     [--rounds 9] [--scale 1] [--again] [--dry]
    python -m benchmarks.four_passes --sweep [--threads 1 2]

Routes, interleaved:
    loss       the loss alone: three passes of the critic
    fastgan    penalties.backward: four passes when the critic is piecewise linear
    shared     the loss and the penalty on one forward when they are at the same points, autograd: six passes
    separate   the loss and the penalty with a forward each, autograd: nine passes

All routes use one network. R3GAN's activations are plain torch's in all routes but fastgan's, as in the published code
without its CUDA kernels. An iteration is an update of both networks with Adam: "shared" is the published alternating
loop with new samples for the generator, "fastgan" updates both simultaneously and reuses the gradient at the fakes.

The numbers are compared first. Dispatched convolutions are counted: a forward, a data gradient and a weight gradient
count one each. --scale divides the widths, for a quick check. Writes benchmarks/results/four_passes.csv after each
case; rows that are there for the same machine, version, threads, precision and width are kept unless --again.

--sweep times small critics on both routes for LEAST_WORK in fastgan/penalties/four_passes/graph.py. It prints only.
"""

import argparse
import copy
import csv
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import NamedTuple
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils._python_dispatch import TorchDispatchMode

import fastgan
from benchmarks.interleaved import hardware, interleaved, percentiles, ratio, results
from fastgan.models import create, r3gan
from fastgan.penalties import R1, R2, WGANGP, backward

_COLUMNS = (
    "critic penalties route taken milliseconds over_loss_p20 over_loss_median over_loss_p80"
    " shared_over_this_p20 shared_over_this_median shared_over_this_p80 convolutions batch precision width threads"
    " hardware isa torch fastgan"
)
COLUMNS = _COLUMNS.split()
SAME = ("critic", "precision", "width", "threads", "hardware", "isa", "torch", "fastgan")
ROUTES = ("loss", "fastgan", "shared", "separate")
GAMMA, WEIGHT = 1.0, 10.0


class Case(NamedTuple):
    """critic: scale -> module. width: of the widest layer at scale 1. iteration: scale -> pair, to update both."""

    critic: Callable
    penalties: tuple
    shape: tuple
    width: int
    iteration: Callable | None = None


def convolutional(scale):
    """Leaky ReLU, no norm, 32 x 32."""
    layers, before = [], 3
    for width in (64 // scale, 128 // scale, 256 // scale):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(width, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        before = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * 16, 1), nn.Flatten(0))


def sn_dcgan(scale):
    """SN-GAN's critic without residuals (Miyato et al., 2018, table 3), torch's spectral norm."""
    layers, before = [], 3
    for width, kernel, stride in ((64, 3, 1), (128, 4, 2), (128, 3, 1), (256, 4, 2), (256, 3, 1), (512, 4, 2)):
        layers += [spectral_norm(nn.Conv2d(before, width // scale, kernel, stride, 1)), nn.LeakyReLU(0.1)]
        before = width // scale
    return nn.Sequential(*layers, nn.Flatten(), spectral_norm(nn.Linear(before * 16, 1)), nn.Flatten(0))


def ctgan(scale):
    """CTGAN's critic (Xu et al., 2019): packs of 10 rows of 60 columns, dropout."""
    width = 256 // scale
    layers = [nn.Linear(600, width), nn.LeakyReLU(0.2), nn.Dropout(0.5), nn.Linear(width, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(width, 1), nn.Flatten(0))


def model(name, resolution, width, part="discriminator", **settings):
    def make(scale):
        pair = create(name, channels=3, resolution=resolution, width=width // scale, **settings)
        if name == "r3gan":  # its blocks start as the identity, which no training step leaves so
            for network in (pair.generator, pair.discriminator):
                for block in network.modules():
                    if isinstance(block, r3gan.ResidualBlock):
                        nn.init.normal_(block.conv3.weight, std=0.02)
        return pair if part == "pair" else pair.discriminator

    return make


BOTH, WIDTH = (R1(GAMMA), R2(GAMMA)), 96  # an eighth of R3GAN's published width for CIFAR-10 and FFHQ
CASES = {
    "conv_r1": Case(convolutional, (R1(GAMMA),), (32, 3, 32, 32), 256),
    "conv_r1_r2": Case(convolutional, BOTH, (32, 3, 32, 32), 256),
    "r3gan_32": Case(model("r3gan", 32, WIDTH), BOTH, (32, 3, 32, 32), WIDTH),
    "r3gan_64": Case(model("r3gan", 64, WIDTH), BOTH, (32, 3, 64, 64), WIDTH),
    "r3gan_32_iteration": Case(None, BOTH, (32, 3, 32, 32), WIDTH, model("r3gan", 32, WIDTH, "pair")),
    "r3gan_64_iteration": Case(None, BOTH, (32, 3, 64, 64), WIDTH, model("r3gan", 64, WIDTH, "pair")),
    "sn_dcgan": Case(sn_dcgan, (R1(GAMMA),), (32, 3, 32, 32), 512),
    "ctgan": Case(ctgan, (WGANGP(WEIGHT),), (50, 600), 256),
    "wgan_gp_group_norm": Case(model("wgan_gp", 32, 64, norm="group"), (WGANGP(WEIGHT),), (32, 3, 32, 32), 64),
}


def squares(gradient):
    return GAMMA / 2 * gradient.flatten(1).square().sum(1).mean()


def distance_from_one(gradient):
    return WEIGHT * (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def slope(critic, x, autocast):
    with autocast():
        logits = critic(x)
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return logits, gradient


def single(logits):
    return logits.float() if logits.dtype == torch.bfloat16 else logits


def paired(real_logits, fake_logits):
    return F.softplus(single(fake_logits) - single(real_logits)).mean()


def wasserstein(real_logits, fake_logits):
    return single(fake_logits).mean() - single(real_logits).mean()


def loss_of(case):
    return ("wasserstein", wasserstein) if isinstance(case.penalties[0], WGANGP) else ("relativistic_paired", paired)


def by_loss(case, critic, real, fake, autocast):
    with autocast():
        logits = critic(torch.cat([real, fake])).chunk(2)
    loss_of(case)[1](*logits).backward()


def by_fastgan(case, critic, real, fake, autocast):
    with autocast():
        return backward(critic, loss_of(case)[0], case.penalties, real=real, fake=fake)


def by_shared(case, critic, real, fake, autocast):
    loss = loss_of(case)[1]
    if isinstance(case.penalties[0], WGANGP):  # at its own points: nothing to share
        return by_separate(case, critic, real, fake, autocast)
    if len(case.penalties) == 2:
        logits, gradient = slope(critic, torch.cat([real, fake]).requires_grad_(), autocast)
        penalty = sum(squares(half) for half in gradient.chunk(2))
        (loss(*logits.chunk(2)) + penalty).backward()
    else:
        logits, gradient = slope(critic, real.clone().requires_grad_(), autocast)
        with autocast():
            of_fake = critic(fake)
        (loss(logits, of_fake) + squares(gradient)).backward()


def by_separate(case, critic, real, fake, autocast):
    by_loss(case, critic, real, fake, autocast)
    if isinstance(case.penalties[0], WGANGP):
        mix = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
        _, gradient = slope(critic, torch.lerp(fake, real, mix).requires_grad_(), autocast)
        distance_from_one(gradient).backward()
    else:
        for batch in (real, fake)[: len(case.penalties)]:
            _, gradient = slope(critic, batch.clone().requires_grad_(), autocast)
            squares(gradient).backward()


def plain_activation(x, bias, *, act, alpha):
    return F.leaky_relu(x + bias[:, None, None], alpha)


def in_plain_torch(step):
    """The step with R3GAN's activations in plain torch."""

    def stepped(*args):
        with mock.patch.object(r3gan, "bias_act", plain_activation):
            return step(*args)

    return stepped


STEPS = {"loss": by_loss, "fastgan": by_fastgan, "shared": by_shared, "separate": by_separate}
STEPS = {route: step if route == "fastgan" else in_plain_torch(step) for route, step in STEPS.items()}


class Iteration:
    """Both updates of an R3GAN step, with Adam."""

    def __init__(self, pair, case, real, autocast):
        self.generator, self.critic, self.case = pair.generator, pair.discriminator, case
        self.real, self.autocast = real, autocast
        parameters = self.generator.parameters(), self.critic.parameters()
        self.optimizers = [torch.optim.Adam(each, 2e-4, betas=(0.0, 0.99)) for each in parameters]

    def fake(self):
        z = torch.randn(len(self.real), self.generator.z_dim, device=self.real.device, dtype=self.real.dtype)
        with self.autocast():
            return self.generator(z).to(z.dtype)

    def alternating(self):
        with torch.no_grad():
            fake = self.fake()
        self.critic.zero_grad(set_to_none=True)
        STEPS["shared"](self.case, self.critic, self.real, fake, self.autocast)
        self.optimizers[1].step()
        self.critic.requires_grad_(False)
        self.by_generator_alone(self.fake())
        self.critic.requires_grad_(True)
        self.optimizers[0].step()

    def by_generator_alone(self, fake):
        self.generator.zero_grad(set_to_none=True)
        with self.autocast():
            real_logits, fake_logits = self.critic(self.real), self.critic(fake)
        paired(fake_logits, real_logits).backward()

    def simultaneous(self):
        self.gradients(self.fake())
        for optimizer in self.optimizers:
            optimizer.step()

    def gradients(self, fake):
        for network in (self.generator, self.critic):
            network.zero_grad(set_to_none=True)
        given = {"real": self.real, "fake": fake, "keep_fake_gradient": True}
        with self.autocast():
            found = backward(self.critic, "relativistic_paired", self.case.penalties, **given)
        _, cotangent = found.generator_cotangent()
        fake.backward(cotangent.to(fake.dtype))
        return found

    def check(self, name):
        """As `check` below, of both networks."""
        torch.manual_seed(0)
        fake, found = self.fake(), []
        self.gradients(fake)
        found.append(gradient_of(self.generator, self.critic))
        self.critic.zero_grad(set_to_none=True)
        STEPS["shared"](self.case, self.critic, self.real, fake.detach(), plain)
        of_critic = gradient_of(self.critic)
        torch.manual_seed(0)
        self.by_generator_alone(self.fake())
        require_equal(name, "fastgan", found[0], torch.cat([gradient_of(self.generator), of_critic]))


class Convolutions(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            self.count += 1
        elif function is torch.ops.aten.convolution_backward.default:
            self.count += int(args[-1][0]) + int(args[-1][1])
        return function(*args, **(kwargs or {}))


def counted(step):
    with Convolutions() as convolutions:
        step()
    return convolutions.count


def gradient_of(*networks):
    return torch.cat([p.grad.flatten() for n in networks for p in n.parameters() if p.grad is not None])


def require_equal(name, route, found, expected):
    """Stops the benchmark unless fastgan's gradients and those of the loops are equal."""
    error = ((found - expected).norm() / expected.norm()).item()
    if not error <= 1e-9:
        raise SystemExit(f"{name}, {route}: relative error {error:.1e}; nothing is timed")


def check(name, case, critic, real, fake):
    """In fp64, on a few samples."""
    critic = copy.deepcopy(critic).double().eval()  # no dropout, no power iteration: all routes see one function
    found = {}
    for route in ("shared", "fastgan", "separate"):
        critic.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        STEPS[route](case, critic, *(batch[:4].double() for batch in (real, fake)), plain)
        found[route] = gradient_of(critic)
        require_equal(name, route, found[route], found["shared"])


def plain():
    return torch.autocast("cpu", enabled=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--precisions", nargs="+", default=["fp32"], choices=("fp32", "bf16"))
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="measure also what the file has")
    parser.add_argument("--dry", action="store_true", help="print, and write no file")
    parser.add_argument("--sweep", action="store_true", help="small critics on both routes")
    args = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False
    if args.sweep:
        sweep(args)
        return
    path = results(args.device) / "four_passes.csv"
    rows = read(path)
    about = {"hardware": hardware(args.device), "isa": fastgan._library.isa()}
    about |= {"torch": torch.__version__, "fastgan": fastgan.__version__}
    for threads in args.threads:
        torch.set_num_threads(threads)
        for precision in args.precisions:
            for name in args.cases:
                key = {"critic": name, "precision": precision, "width": CASES[name].width // args.scale}
                key = {k: str(v) for k, v in (key | {"threads": threads} | about).items()}
                if not args.again and any(all(row[k] == key[k] for k in SAME) for row in rows):
                    print(f"{name}, {threads} threads, {precision}: measured before")
                    continue
                measured = measure(name, CASES[name], precision, args)
                rows = [row for row in rows if any(row[k] != key[k] for k in SAME)]
                rows += [row | key for row in measured]
                if not args.dry:
                    write(path, rows)


def read(path):
    """The rows; a file of other columns starts again."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        return list(reader) if set(reader.fieldnames) == set(COLUMNS) else []


def write(path, rows):
    order = list(CASES)
    rows = sorted(rows, key=lambda row: (row["precision"] != "fp32", int(row["threads"]), order.index(row["critic"])))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def measure(name, case, precision, args):
    """The rows of a case, without what is the same for all of them."""
    torch.manual_seed(0)
    real, fake = (torch.randn(case.shape, device=args.device) for _ in range(2))

    def autocast():
        return torch.autocast(args.device, torch.bfloat16) if precision == "bf16" else nullcontext()

    if case.iteration is None:
        critic = case.critic(args.scale).to(args.device)
        check(name, case, critic, real, fake)
        taken = by_fastgan(case, critic, real, fake, autocast).route

        def step(route):
            critic.zero_grad(set_to_none=True)
            STEPS[route](case, critic, real, fake, autocast)

        steps = {route: partial(step, route) for route in ROUTES}
    else:
        pair = case.iteration(args.scale)
        few = copy.deepcopy(pair)
        few = few._replace(generator=few.generator.double(), discriminator=few.discriminator.double())
        Iteration(few, case, real[:4].double().cpu(), plain).check(name)
        pair = pair._replace(generator=pair.generator.to(args.device), discriminator=pair.discriminator.to(args.device))
        iteration = Iteration(pair, case, real, autocast)
        taken = iteration.gradients(iteration.fake()).route
        steps = {"fastgan": iteration.simultaneous, "shared": in_plain_torch(iteration.alternating)}
    convolutions = {route: counted(step) for route, step in steps.items()}
    seconds = interleaved(steps, rounds=args.rounds, seconds_per_turn=0.0)
    rows = []
    for route in steps:
        time, over_shared = percentiles([1e3 * t for t in seconds[route]]), ratio(seconds, "shared", route)
        over_loss = ratio(seconds, route, "loss") if "loss" in steps else None
        print(
            f"{name:20} {precision} {torch.get_num_threads()} threads {route:9} {time.median:9.2f} ms,"
            f" {over_loss or '-'!s:>20} of the loss alone, {over_shared!s:>20} x shared,"
            f" {convolutions[route]} convolutions",
            flush=True,
        )
        row = {"penalties": "+".join(type(p).__name__ for p in case.penalties), "route": route}
        row |= {"taken": taken if route == "fastgan" else "", "milliseconds": f"{time.median:.4g}"}
        for column, found in (("over_loss", over_loss), ("shared_over_this", over_shared)):
            for percentile in ("p20", "median", "p80"):
                row[f"{column}_{percentile}"] = "" if found is None else f"{getattr(found, percentile):.4g}"
        rows.append(row | {"convolutions": convolutions[route], "batch": len(real)})
    return rows


SMALL = {
    **{f"linear, width {w}": (partial(nn.Linear, w, w), (w,)) for w in (32, 64, 128, 256, 512)},
    **{f"convolution, width {w}": (partial(nn.Conv2d, w, w, 3, padding=1), (w, 8, 8)) for w in (4, 8, 16, 32, 64)},
}


def sweep(args):
    """Critics of four equal layers and a head, R1 and R2, 32 samples."""
    for threads in args.threads:
        torch.set_num_threads(threads)
        for name, (layer, shape) in SMALL.items():
            torch.manual_seed(0)
            layers = [part for _ in range(4) for part in (layer(), nn.LeakyReLU(0.2))]
            features = torch.Size(shape).numel()
            critic = nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 1), nn.Flatten(0)).to(args.device)
            real, fake = torch.randn(2, 32, *shape, device=args.device)

            def step(route, critic=critic, real=real, fake=fake):
                critic.zero_grad(set_to_none=True)
                backward(critic, "relativistic_paired", BOTH, real=real, fake=fake, route=route)

            steps = {route: partial(step, route) for route in ("general", "four passes")}
            seconds = interleaved(steps, rounds=args.rounds)
            outputs = features // shape[0] if len(shape) > 1 else 1  # that each weight takes part in
            products = 64 * (4 * outputs * layers[0].weight.numel() + features) // 5
            print(f"{name:24} {threads} threads, {products:10} products a map, {ratio(seconds, *steps)} x", flush=True)


if __name__ == "__main__":
    main()
