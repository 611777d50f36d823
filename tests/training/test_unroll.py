"""The unrolled generator's gradient is exact: through the critic's updates, through Adam, through every fastgan op."""

import copy

import pytest
import torch
from torch import nn

import fastgan
from fastgan import losses, penalties
from fastgan.training import unrolled_generator_loss
from fastgan.training.step.objective import Objective, terms_of


class Critic(nn.Module):
    """4 x 4 images, and every kind of fastgan op: spectral norm, group norm, bias + activation, attention."""

    def __init__(self):
        super().__init__()
        self.first = fastgan.nn.SNConv2d(2, 8, 3, padding=1)
        self.attention = fastgan.nn.SelfAttention2d(8, qk_channels=4)
        self.attention.gamma.data.fill_(0.7)
        self.weight, self.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.last = fastgan.nn.SNLinear(8 * 16, 1)
        fastgan.nn.fuse_spectral_norm(self)

    def forward(self, x):
        x = fastgan.ops.bias_act(self.first(x), self.bias, act="silu")
        x = fastgan.ops.group_norm(self.attention(x), 2, self.weight)
        return self.last(x.flatten(1)).squeeze(1)


def mlp():
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Softplus(), nn.Linear(8, 1), nn.Flatten(0))


def make(kind, seed=0):
    torch.manual_seed(seed)
    critic = (Critic() if kind == "fastgan ops" else mlp()).double()
    shape = (6, 2, 4, 4) if kind == "fastgan ops" else (6, 2)
    real, fake = torch.randn(shape).double(), torch.randn(shape).double() + 0.5
    return critic, real, fake


def optimizer_of(kind, critic):
    """With a state: two ordinary steps are behind it."""
    if kind == "sgd":
        return torch.optim.SGD(critic.parameters(), 0.05)
    optimizer = torch.optim.Adam(critic.parameters(), 0.02, (0.5, 0.9), eps=1e-3)
    for seed in range(2):
        torch.manual_seed(seed)
        for p in critic.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()
    return optimizer


def played(objective, critic, optimizer, fake, real, steps):
    """The generator's loss after `steps` real updates of a copy of the critic with torch's own optimiser."""
    twin = copy.deepcopy(critic)
    torch_optimizer = type(optimizer)(twin.parameters(), **optimizer.defaults)
    torch_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(steps):
        torch_optimizer.zero_grad()
        objective.discriminator(objective.critic(twin), real, fake.detach())[0].backward()
        torch_optimizer.step()
    if objective.loss.name in ("minimax", "wasserstein"):
        return -objective.discriminator(objective.critic(twin), real, fake)[0]
    return objective.generator(objective.critic(twin), fake, real)[0]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("optimizer_kind", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["mlp", "fastgan ops"])
@pytest.mark.parametrize("loss", ["minimax", "non_saturating"])
def test_gradient_is_that_of_finite_differences(kind, loss, optimizer_kind, recompute):
    critic, real, fake = make(kind)
    critic.eval()  # fixed u and v: in training they move with the weights, and are constants to every derivative
    optimizer, objective = optimizer_of(optimizer_kind, critic), Objective(losses.get(loss))
    fake.requires_grad_()
    total, _ = unrolled_generator_loss(objective, critic, optimizer, fake, real, steps=3, recompute=recompute)
    torch.testing.assert_close(total, played(objective, critic, optimizer, fake, real, 3))
    (gradient,) = torch.autograd.grad(total, fake)
    torch.manual_seed(1)
    for _ in range(3):
        direction, h = torch.randn_like(fake), 1e-5
        there, back = (
            played(objective, critic, optimizer, (fake + sign * h * direction).detach(), real, 3).item()
            for sign in (1, -1)
        )
        expected = (there - back) / (2 * h)
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-4)


def test_the_gradient_goes_through_penalties_too():
    """Through the critic's gradient at the samples, and at places between them."""
    critic, real, fake = make("mlp")
    terms = (penalties.R2(2.0), penalties.R1(1.0), penalties.WGANGP(1.0), penalties.Consistency(1.0, 1.0, torch.sin))
    optimizer, objective = optimizer_of("adam", critic), Objective(losses.get("non_saturating"), terms_of(terms))
    fake.requires_grad_()
    torch.manual_seed(7)
    total, _ = unrolled_generator_loss(objective, critic, optimizer, fake, real, steps=2)
    (gradient,) = torch.autograd.grad(total, fake)
    direction, h, values = torch.randn_like(fake), 1e-5, []
    for sign in (1, -1):
        torch.manual_seed(7)  # the same draws
        values.append(played(objective, critic, optimizer, (fake + sign * h * direction).detach(), real, 2).item())
    assert (gradient * direction).sum().item() == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-4)


def test_a_gradient_penalty_through_fastgans_ops_is_a_third_order_and_raises():
    critic, real, fake = make("fastgan ops")
    optimizer, objective = optimizer_of("sgd", critic), Objective(losses.get("hinge"), terms_of((penalties.R1(1.0),)))
    total, _ = unrolled_generator_loss(objective, critic, optimizer, fake.requires_grad_(), real, steps=1)
    with pytest.raises(NotImplementedError, match="has no further derivative"):
        total.backward()


def test_the_first_order_copy_is_another_gradient():
    """Stepping a copy of the critic and forgetting how it came about, as is often done, leaves half of it out."""
    critic, real, fake = make("mlp")
    optimizer, objective = torch.optim.SGD(critic.parameters(), 0.5), Objective(losses.get("minimax"))
    fake.requires_grad_()
    total, _ = unrolled_generator_loss(objective, critic, optimizer, fake, real, steps=5)
    (exact,) = torch.autograd.grad(total, fake)
    (copied,) = torch.autograd.grad(played(objective, critic, optimizer, fake, real, 5), fake)
    assert (exact - copied).norm() > 0.05 * exact.norm()


def test_critic_buffers_and_optimiser_are_as_before():
    torch.manual_seed(0)
    critic = nn.Sequential(
        fastgan.nn.SNLinear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), fastgan.nn.SNLinear(8, 1), nn.Flatten(0)
    )
    optimizer = optimizer_of("adam", critic)
    before = copy.deepcopy((critic.state_dict(), optimizer.state_dict()["state"]))
    fake = torch.randn(6, 2, requires_grad=True)
    total, _ = unrolled_generator_loss(
        Objective(losses.get("hinge")), critic, optimizer, fake, torch.randn(6, 2), steps=2
    )
    total.backward()
    for key, value in critic.state_dict().items():
        assert torch.equal(value, before[0][key]), key
    for index, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            assert torch.equal(value, before[1][index][key]), key
    assert fake.grad.isfinite().all() and fake.grad.abs().sum() > 0


def test_no_step_behind_it_and_a_dead_unit_make_no_nan():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0))
    critic[0].bias.data[:2] = -100  # never active: their gradients, and Adam's second moments, are exactly zero
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    fake = torch.randn(6, 2, requires_grad=True)
    total, _ = unrolled_generator_loss(
        Objective(losses.get("minimax")), critic, optimizer, fake, torch.randn(6, 2), steps=3
    )
    total.backward()
    assert fake.grad.isfinite().all()


def test_no_steps_is_the_ordinary_loss():
    critic, real, fake = make("mlp")
    objective = Objective(losses.get("non_saturating"))
    total, _ = unrolled_generator_loss(objective, critic, optimizer_of("sgd", critic), fake, real, steps=0)
    torch.testing.assert_close(total, objective.generator(objective.critic(critic), fake, real)[0])


def test_an_optimiser_that_is_not_known_is_refused():
    critic, real, fake = make("mlp")
    for optimizer in (
        torch.optim.RMSprop(critic.parameters()),
        torch.optim.Adam(critic.parameters(), weight_decay=0.1),
        torch.optim.SGD(critic.parameters(), 0.1, momentum=0.9),
    ):
        with pytest.raises(TypeError, match="unrolling knows"):
            unrolled_generator_loss(Objective(losses.get("hinge")), critic, optimizer, fake, real, steps=1)


def kept_bytes(steps, recompute):
    """What the graph of the unrolled loss keeps for its backward, each storage once."""
    critic, real, fake = make("mlp")
    optimizer, objective = optimizer_of("sgd", critic), Objective(losses.get("minimax"))
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = unrolled_generator_loss(
            objective, critic, optimizer, fake.requires_grad_(), real, steps=steps, recompute=recompute
        )
    assert loss.requires_grad
    return sum(kept.values())


def test_memory_grows_with_the_steps_and_recomputing_keeps_the_weights_alone():
    graphs = [kept_bytes(steps, recompute=False) for steps in (2, 4, 8)]
    weights = [kept_bytes(steps, recompute=True) for steps in (2, 4, 8)]
    assert (graphs[2] - graphs[1]) / (graphs[1] - graphs[0]) == pytest.approx(2, rel=0.05)  # O(K), no more
    assert (weights[2] - weights[1]) < (graphs[2] - graphs[1]) / 3
