"""A critic's loss with a gradient penalty, gradients included: penalties.backward against loops in plain torch.

    python -m benchmarks.four_passes [--device cuda] [--threads N] [--rounds 9] [--only conv ...] [--bf16] [--scale 1]

Routes, interleaved:
    loss       the loss alone: three passes of the critic
    fastgan    penalties.backward: four passes when the critic is piecewise linear
    shared     the loss and the penalty on one forward when they are at the same points, autograd: six passes
    separate   the loss and the penalty with a forward each, autograd: nine passes

All routes use one network, so they differ in passes only. The numbers are compared first.
Dispatched convolutions are counted: a forward, a data gradient and a weight gradient count one each.
--scale divides the widths, for a quick check. Writes benchmarks/results/four_passes.csv.
"""

import argparse
import copy
import csv
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils._python_dispatch import TorchDispatchMode

import fastgan
from benchmarks.interleaved import hardware, interleaved, percentiles, ratio, results
from fastgan.models import create
from fastgan.penalties import R1, R2, WGANGP, backward

COLUMNS = (
    "critic penalties route taken milliseconds over_loss_p20 over_loss_median over_loss_p80"
    " shared_over_this_p20 shared_over_this_median shared_over_this_p80 convolutions batch precision"
)
ROUTES = ("loss", "fastgan", "shared", "separate")
GAMMA, WEIGHT = 1.0, 10.0


class Case(NamedTuple):
    critic: callable
    penalties: tuple
    shape: tuple


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


def model(name, resolution=32, width=96, **settings):
    def make(scale):
        return create(name, channels=3, resolution=resolution, width=width // scale, **settings).discriminator

    return make


CASES = {
    "conv_r1": Case(convolutional, (R1(GAMMA),), (32, 3, 32, 32)),
    "conv_r1_r2": Case(convolutional, (R1(GAMMA), R2(GAMMA)), (32, 3, 32, 32)),
    "r3gan_32": Case(model("r3gan"), (R1(GAMMA), R2(GAMMA)), (32, 3, 32, 32)),
    "r3gan_64": Case(model("r3gan", 64), (R1(GAMMA), R2(GAMMA)), (32, 3, 64, 64)),
    "sn_dcgan": Case(sn_dcgan, (R1(GAMMA),), (32, 3, 32, 32)),
    "ctgan": Case(ctgan, (WGANGP(WEIGHT),), (50, 600)),
    "wgan_gp_group_norm": Case(model("wgan_gp", width=64, norm="group"), (WGANGP(WEIGHT),), (32, 3, 32, 32)),
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


STEPS = {"loss": by_loss, "fastgan": by_fastgan, "shared": by_shared, "separate": by_separate}


class Convolutions(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            self.count += 1
        elif function is torch.ops.aten.convolution_backward.default:
            self.count += int(args[-1][0]) + int(args[-1][1])
        return function(*args, **(kwargs or {}))


def counted(route, case, critic, real, fake, autocast):
    with Convolutions() as convolutions:
        STEPS[route](case, critic, real, fake, autocast)
    return convolutions.count


def check(name, case, critic, real, fake):
    """Stops the benchmark unless fastgan's gradients and those of the loops are equal, in fp64, on a few samples."""
    critic = copy.deepcopy(critic).double().eval()  # no dropout, no power iteration: all routes see one function
    found = {}
    for route in ("fastgan", "shared", "separate"):
        critic.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        STEPS[route](case, critic, *(batch[:4].double() for batch in (real, fake)), plain)
        found[route] = torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None])
    for route in ("fastgan", "separate"):
        error = ((found[route] - found["shared"]).norm() / found["shared"].norm()).item()
        if not error <= 1e-9:
            raise SystemExit(f"{name}, {route}: relative error {error:.1e}; nothing is timed")


def plain():
    return torch.autocast("cpu", enabled=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--dry", action="store_true", help="print, and write no file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False
    rows = []
    for name in args.only:
        rows += measure(name, CASES[name], args)
    if args.dry:
        return
    about = [hardware(args.device), args.threads, fastgan._library.isa(), torch.__version__, fastgan.__version__]
    with (results(args.device) / "four_passes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS.split(), "hardware", "threads", "isa", "torch", "fastgan"])
        writer.writerows([*row, *about] for row in rows)


def measure(name, case, args):
    torch.manual_seed(0)
    critic = case.critic(args.scale).to(args.device)
    real, fake = (torch.randn(case.shape, device=args.device) for _ in range(2))

    def autocast():
        return torch.autocast(args.device, torch.bfloat16, enabled=args.bf16)

    check(name, case, critic, real, fake)
    taken = by_fastgan(case, critic, real, fake, autocast).route
    convolutions = {route: counted(route, case, critic, real, fake, autocast) for route in ROUTES}

    def step_of(route):
        def step():
            critic.zero_grad(set_to_none=True)
            STEPS[route](case, critic, real, fake, autocast)

        return step

    seconds = interleaved({route: step_of(route) for route in ROUTES}, rounds=args.rounds, seconds_per_turn=0.0)
    penalties = "+".join(type(p).__name__ for p in case.penalties)
    rows = []
    for route in ROUTES:
        milliseconds = percentiles([1e3 * t for t in seconds[route]])
        over_loss, over_shared = ratio(seconds, route, "loss"), ratio(seconds, "shared", route)
        print(
            f"{name:20} {route:9} {milliseconds.median:9.2f} ms, {over_loss!s:>20} of the loss alone,"
            f" {over_shared!s:>20} x shared, {convolutions[route]} convolutions"
        )
        numbers = [milliseconds.median, *over_loss.__dict__.values(), *over_shared.__dict__.values()]
        precision = "bf16" if args.bf16 else "fp32"
        route_taken = taken if route == "fastgan" else ""
        numbers = [f"{n:.4g}" for n in numbers]
        about = [convolutions[route], len(real), precision]
        rows.append([name, penalties, route, route_taken, *numbers, *about])
    return rows


if __name__ == "__main__":
    main()
