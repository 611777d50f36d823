"""T1, the Dirac-GAN: which losses and penalties converge where the whole theory fits on a line.

    python -m benchmarks.papers.dirac_gan

Mescheder et al., 2018: D(x) = psi x, the real data is 0 and G makes theta. Step 0.2, start (1, 1), 500 simultaneous
steps; losses and penalties are the library's. Nothing is random. Seconds.
"""

import cmath
import math

import torch

from benchmarks.papers.table import Criterion, Table, main
from fastgan import losses
from fastgan.penalties import R1, WGANGP, WeightClip

H = 0.2
METHODS = {
    "GAN": ("minimax", {}),
    "GAN + R1 (gamma 0.3)": ("minimax", {"penalties": (R1(0.3),)}),
    "GAN + R1 (gamma 1)": ("minimax", {"penalties": (R1(1.0),)}),
    "NS-GAN + R1 (gamma 0.3)": ("non_saturating", {"penalties": (R1(0.3),)}),
    "NS-GAN + R1 (gamma 1)": ("non_saturating", {"penalties": (R1(1.0),)}),
    "consensus optimisation": ("minimax", {"consensus": 1.0}),
    "WGAN (clip 1)": ("wasserstein", {"clip": WeightClip(1.0)}),
    "WGAN-GP (0.7, target 1)": ("wasserstein", {"penalties": (WGANGP(0.7, target=1.0),)}),
}
CONVERGE = [name for name in METHODS if "R1" in name or "consensus" in name]
TABLE = Table(
    name="dirac_gan",
    id="T1",
    title="The Dirac-GAN",
    source="Mescheder et al., 2018; LMescheder/GAN_stability, notebooks/DiracGAN",
    label="exact",
    protocol=(
        "One parameter a player, step 0.2, start (1, 1), 500 simultaneous steps. Radius: the distance from the "
        "equilibrium after the last step. Late radius: the largest distance over the last 100 steps."
    ),
    published={name: "converges" if name in CONVERGE else "does not converge" for name in METHODS},
)


def radii(loss, penalties=(), clip=None, consensus=0.0, steps=500, start=(1.0, 1.0)):
    """sqrt(theta^2 + psi^2) after each step."""
    loss = losses.get(loss)
    psi, theta = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in start)
    real, path = torch.zeros(1, 1, dtype=torch.float64), []

    def critic(x):
        return (psi * x).squeeze(1)

    for _ in range(steps):
        fake = theta.reshape(1, 1)
        logits = critic(fake)
        d_loss = loss.discriminator(critic(real), critic(fake.detach()))
        d_loss = d_loss + sum(p(critic, real=real, fake=fake) for p in penalties)
        (d_psi,) = torch.autograd.grad(d_loss, psi, create_graph=consensus > 0)
        (d_theta,) = torch.autograd.grad(loss.generator(logits), theta, create_graph=consensus > 0)
        if consensus:
            more = torch.autograd.grad(consensus / 2 * (d_psi**2 + d_theta**2), (psi, theta))
            d_psi, d_theta = d_psi + more[0], d_theta + more[1]
        with torch.no_grad():
            psi -= H * d_psi.detach()
            theta -= H * d_theta.detach()
            if clip:
                psi.copy_(clip.apply_(_Holder(psi)).value)
        path.append(math.hypot(psi.item(), theta.item()))
    return path


class _Holder(torch.nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = torch.nn.Parameter(value.detach().clone())


def contraction_error(gamma):
    """Of the radius of one step near the equilibrium, from the |1 + h lambda| that the theory gives for R1."""
    path = radii("minimax", (R1(gamma),), steps=400, start=(1e-6, 1e-6))
    root = cmath.sqrt(gamma**2 / 4 - 0.25)  # lambda = -gamma/2 +- sqrt(gamma^2/4 - f'(0)^2)
    expected = max(abs(1 + H * (-gamma / 2 + sign * root)) for sign in (1, -1))
    if gamma == 1.0:  # the double eigenvalue: r_n ~ n rho^n
        measured = (path[399] / path[199] * 200 / 400) ** (1 / 200)
    else:
        period = 2 * math.pi / abs(math.atan2(H * abs(root.imag), 1 - H * gamma / 2)) if root.imag else 100
        gap = round(period * round(200 / period)) if root.imag else 200
        measured = (path[399] / path[399 - gap]) ** (1 / gap)
    return abs(measured - expected)


def run(configuration, seed, device="cpu"):
    loss, options = METHODS[configuration]
    path = radii(loss, **options)
    return {"radius": path[-1], "late_radius": max(path[-100:]), "path": path}


def criteria(rows):
    radius, late = ({row["configuration"]: row[name] for row in rows} for name in ("radius", "late_radius"))
    errors = {gamma: contraction_error(gamma) for gamma in (0.3, 1.0, 2.0)}
    circling = [late[name] for name in METHODS if name.startswith("WGAN")]
    worst = max(radius[name] for name in CONVERGE)
    return [
        Criterion("R1 (gamma 0.3 and 1) and consensus: radius below 1e-3", f"at most {worst:.1e}", worst < 1e-3),
        Criterion("GAN: radius above 2", f"{radius['GAN']:.2f}", radius["GAN"] > 2),
        Criterion("WGAN and WGAN-GP: late radius above 0.5", f"at least {min(circling):.2f}", min(circling) > 0.5),
        Criterion(
            "R1 contracts by |1 + h lambda| to 1e-4 (gamma 0.3, 1, 2)",
            f"off by at most {max(errors.values()):.1e}",
            max(errors.values()) < 1e-4,
        ),
    ]


def figure(rows):
    def draw(figure):
        axis = figure.subplots()
        for row in rows:
            axis.plot(row["path"], label=row["configuration"], linewidth=1)
        axis.set(yscale="log", xlabel="step", title="distance from the equilibrium", ylim=(1e-8, None))
        axis.legend(fontsize=8, loc="lower left")

    return draw


if __name__ == "__main__":
    main(__doc__, TABLE, run, criteria, figure, METHODS, seeds=1)
