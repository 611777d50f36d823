"""200 drawn critics, every loss and every gradient penalty: the gradients are autograd's, whatever the route."""

import pytest
import torch
from torch import nn

from fastgan import losses
from fastgan.penalties import DRAGAN, R1, R2, WGANGP, Consistency, CriticDrift, LeCam, OrthogonalRegularization
from tests.penalties.four_passes.drawn_critics import Draw
from tests.penalties.four_passes.reference import compare

COUNT, PART = 200, 25
PENALTIES = [
    (R1(2.0),),
    (R2(3.0),),
    (R1(2.0), R2(3.0)),
    (WGANGP(),),
    (WGANGP(one_sided=True, target=0.1), R2()),
    (DRAGAN(c=0.1),),
    (DRAGAN(variant="code"), R1(), CriticDrift(1.0)),
    (R1(), LeCam(), Consistency(augment=lambda x: 1.1 * x)),
]


def batches(shape, seed, size=3):
    return torch.randn(2, size, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("first", range(0, COUNT, PART))
def test_gradients_of_drawn_critics_are_those_of_autograd(first):
    for seed in range(first, first + PART):
        torch.manual_seed(seed)
        draw = Draw(seed)
        critic = draw.critic()
        loss = losses.names()[seed % len(losses.names())]
        real, fake = batches(draw.shape, seed)
        result = compare(critic, loss, PENALTIES[seed % len(PENALTIES)], real, fake)
        assert result.route == ("general" if draw.curved else "four passes"), (seed, critic, result.reason)


def test_most_drawn_critics_take_four_passes_and_some_do_not():
    draws = [Draw(seed) for seed in range(COUNT)]
    for seed, draw in enumerate(draws):
        torch.manual_seed(seed)
        draw.critic()
    assert COUNT / 2 < sum(not draw.curved for draw in draws) < 0.95 * COUNT


@pytest.mark.parametrize("loss", losses.names())
@pytest.mark.parametrize("terms", [*PENALTIES, (WGANGP(), OrthogonalRegularization(0.1))], ids=repr)
def test_every_loss_with_every_penalty(loss, terms):
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(2, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4 * 16, 1)).double()
    real, fake = batches((2, 6, 6), 1)
    assert compare(critic, loss, terms, real, fake).route == "four passes"
    kept = compare(critic, loss, terms, real, fake, keep_fake_gradient=True)
    assert kept.fake_gradient.shape == fake.shape
