import torch
from torch import nn

from fastgan import losses, metrics
from fastgan.metrics import duality_gap


def networks(seed=0):
    torch.manual_seed(seed)
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    generator.z_dim = 4
    critic = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1), nn.Flatten(0))
    return generator, critic


def real(count, source):
    return torch.randn(count, 2, generator=source) + 2


SHORT = {"steps": 60, "evaluation_batches": 10, "lr": 5e-3}


def test_the_networks_and_the_random_state_stay_as_they_are():
    pair = networks()
    before = [p.clone() for network in pair for p in network.parameters()]
    state = torch.get_rng_state()
    first, again = (duality_gap(*pair, losses.get("non_saturating"), real, **SHORT) for _ in range(2))
    assert first == again
    assert torch.equal(state, torch.get_rng_state())
    after = [p for network in pair for p in network.parameters()]
    assert all(torch.equal(a, b) and b.requires_grad and b.grad is None for a, b in zip(before, after, strict=True))


def test_either_player_gains_away_from_the_equilibrium():
    generator, critic = networks()
    still = metrics.log_payoff(critic(real(4000, None)), critic(generator(torch.randn(4000, 4)))).item()
    found = duality_gap(generator, critic, losses.get("non_saturating"), real, **SHORT)
    assert found.best_critic > still > found.best_generator
    assert found.gap == found.best_critic - found.best_generator > 0.3


class Equilibrium(nn.Module):
    """A generator of the data themselves; a critic that is undecided whatever its weight."""

    z_dim = 2

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.full((2,), 2.0))

    def forward(self, z):
        return z + self.shift


def test_the_gap_is_zero_at_an_equilibrium():
    critic = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))
    nn.init.zeros_(critic[0].weight), nn.init.zeros_(critic[0].bias)
    found = duality_gap(Equilibrium(), critic, losses.get("non_saturating"), real, steps=50)
    assert abs(found.gap) < 0.05
    assert abs(found.best_critic + 2 * torch.log(torch.tensor(2.0)).item()) < 0.05


def test_perturbation_moves_the_player_that_is_trained():
    generator, critic = networks()
    with torch.no_grad():  # stationary: a dead critic has no gradient to give, and takes none
        for p in critic.parameters():
            p.zero_()
    plain, perturbed = (
        duality_gap(generator, critic, losses.get("minimax"), real, perturbed=p, **SHORT) for p in (False, True)
    )
    assert plain.best_generator == perturbed.best_generator  # D = 1/2 everywhere: G can gain nothing
    torch.manual_seed(0)
    nn.init.normal_(critic[0].weight, std=1e-3), nn.init.normal_(critic[2].weight, std=1e-3)
    a, b = (duality_gap(generator, critic, losses.get("minimax"), real, perturbed=p, **SHORT) for p in (False, True))
    assert a != b


def test_the_payoff_is_the_published_one():
    logits = torch.linspace(-30, 30, 7)
    d = torch.sigmoid(logits.double())
    expected = torch.log(d + 1e-4).mean() + torch.log(1 - d + 1e-4).mean()
    torch.testing.assert_close(metrics.log_payoff(logits, logits), expected)
