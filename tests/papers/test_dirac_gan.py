"""The Dirac-GAN (Mescheder et al., 2018): one parameter a player, and the paper's verdict on each method.

D(x) = psi x, the real data is 0 and G makes theta. Step 0.2, start (1, 1), 500 simultaneous steps.
"""

import math

import pytest
import torch

from fastgan import losses
from fastgan.penalties import R1, WGANGP, WeightClip

H = 0.2


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


@pytest.mark.parametrize("gamma", [0.3, 1.0])
@pytest.mark.parametrize("loss", ["minimax", "non_saturating"])
def test_r1_converges(loss, gamma):
    assert radii(loss, (R1(gamma),))[-1] < 1e-3


def test_consensus_optimisation_converges():
    assert radii("minimax", consensus=1.0)[-1] < 1e-3


def test_the_unregularised_gan_moves_away():
    assert radii("minimax")[-1] > 2


def test_wgan_and_wgan_gp_keep_circling():
    assert max(radii("wasserstein", clip=WeightClip(1.0))[-100:]) > 0.5
    assert max(radii("wasserstein", (WGANGP(0.7, target=1.0),))[-100:]) > 0.5


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_r1_contracts_as_its_eigenvalues_say(gamma):
    """Near the equilibrium the step multiplies by |1 + h lambda|, lambda = -gamma/2 +- sqrt(gamma^2/4 - f'(0)^2)."""
    path = radii("minimax", (R1(gamma),), steps=400, start=(1e-6, 1e-6))
    root = complex(gamma**2 / 4 - 0.25) ** 0.5
    expected = max(abs(1 + H * (-gamma / 2 + sign * root)) for sign in (1, -1))
    if gamma == 1.0:  # the double eigenvalue: r_n ~ n rho^n
        measured = (path[399] / path[199] * 200 / 400) ** (1 / 200)
        assert abs(measured - expected) < 1e-4
    else:
        periods = 2 * math.pi / abs(math.atan2(H * abs(root.imag), 1 - H * gamma / 2)) if root.imag else 100
        gap = round(periods * round(200 / periods)) if root.imag else 200
        measured = (path[399] / path[399 - gap]) ** (1 / gap)
        assert abs(measured - expected) < 1e-4
