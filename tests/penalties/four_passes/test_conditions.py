"""What is not piecewise linear, couples samples or hides a parameter goes the general route: never a wrong gradient."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.penalties import R1, R2, WGANGP, Gradients, LeCam, Penalty
from tests.penalties.four_passes.reference import assert_equal_gradients, by_autograd, by_backward, compare

FEATURES = 6


class Critic(nn.Module):
    """Two linear layers with a function between them."""

    def __init__(self, between):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(FEATURES, 8), nn.Linear(8, 1)
        self.extra = nn.Parameter(torch.randn(8))
        self.unused = nn.Parameter(torch.randn(3))
        self.between = between
        self.double()

    def forward(self, x):
        return self.second(self.between(self, F.leaky_relu(self.first(x), 0.2)))


def points(size=4, seed=1):
    return torch.randn(2, size, FEATURES, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class OwnFunction(torch.autograd.Function):
    """x^2 / 2 + x, under the name of something harmless."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x / 2 + x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (x + 1)


OwnFunction.__name__ = OwnFunction.__qualname__ = "ReluBackward0"


class Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


Relu.op = "bias_act"  # what fastgan's own functions are known by


def by_batch_size(critic, h):
    return h if len(h) > 4 else h * h


def in_place(critic, h):
    h = h + critic.extra
    h.mul_(0.5).relu_()
    return h


def into_a_view(critic, h):
    h = h * 1.0
    h[:, :3].mul_(critic.extra[:3])
    return h


def with_a_detach(critic, h):
    return h * h.detach() + h.detach() * critic.extra


def rows_exchanged(critic, h):
    return h.flip(0) + h


def rows_shifted(critic, h):
    return h + F.pad(h, (0, 0, 1, -1))


def rows_reshaped(critic, h):
    return h.reshape(8, -1).T.reshape(h.shape)


def rows_moved(critic, h):
    return h.unsqueeze(1).expand(-1, len(h), -1).transpose(0, 1).sum(1)


def rows_broadcast(critic, h):
    return h + h.mean(1)[None, :, None].expand(len(h), len(h), 8).mean(2).mean(1, keepdim=True)


def rows_in_a_product(critic, h):
    return torch.ones(len(h), len(h), dtype=h.dtype) @ h


def by_index(critic, h):
    return h[torch.arange(len(h)).flip(0)] + h


def indices_in_front(critic, h):
    h = h.reshape(len(h), 2, 2, 2)
    index = torch.arange(len(h)) % 2
    return h[:, index, :, index].reshape(len(h), -1)[:, :8]  # (indices, B, 2): the samples are no longer first


GENERAL = {
    "SiLU in a functional call": lambda critic, h: torch.ops.aten.silu(h),
    "a norm": lambda critic, h: F.layer_norm(h, (8,)),
    "a norm of fastgan": lambda critic, h: fastgan.ops.layer_norm(h, (8,)),
    "minibatch stddev": lambda critic, h: fastgan.nn.MinibatchStdDev()(h)[:, 1:] * critic.extra,
    "batch statistics": lambda critic, h: h - h.mean(0),
    "attention": lambda critic, h: torch.softmax(h[:, :, None] * h[:, None], -1).sum(-1),
    "x * x": lambda critic, h: h * h,
    "x / x": lambda critic, h: h / (1 + h.abs().sum(1, keepdim=True)),
    "a power": lambda critic, h: h**2,
    "a product of features": lambda critic, h: torch.bmm(h[:, :, None], h[:, None]).sum(1),
    "a norm of each sample": lambda critic, h: h / h.norm(dim=1, keepdim=True),
    "a custom autograd.Function": lambda critic, h: OwnFunction.apply(h),
    "a Function with an op's mark": lambda critic, h: Relu.apply(h),
    "a linear hook": lambda critic, h: (h.register_hook(lambda g: -0.5 * g), h)[1],  # what follows is its transpose
    "in place into a view": into_a_view,
    "samples exchanged": rows_exchanged,
    "samples shifted": rows_shifted,
    "samples reshaped into one another": rows_reshaped,
    "samples moved": rows_moved,
    "samples broadcast": rows_broadcast,
    "samples in a product": rows_in_a_product,
    "samples by an index": by_index,
    "indices in front": indices_in_front,
    "rolled": lambda critic, h: h + h.roll(1),
    "the batch in halves": lambda critic, h: torch.cat(h.chunk(2)[::-1]) + h,
    "cumulative over samples": lambda critic, h: h.cumsum(0),
    "sorted": lambda critic, h: h.sort(0).values,
    "a curved activation of fastgan": lambda critic, h: fastgan.ops.bias_act(h, critic.extra, act="gelu"),
    "a complex detour": lambda critic, h: torch.fft.ifft(torch.fft.fft(h)).real * critic.extra,
}
FOUR_PASSES = {
    "|x|": lambda critic, h: h.abs() * critic.extra,
    "max over channels": lambda critic, h: torch.cat([h, h.max(1, keepdim=True).values], 1)[:, 1:],
    "amax with equal values": lambda critic, h: h + torch.cat([h, h], 1).amax(1, keepdim=True),
    "dropout": lambda critic, h: F.dropout(h, 0.5),
    "in-place operations": in_place,
    "a detach": with_a_detach,
    "a mask of the values": lambda critic, h: h * (h > 0.1) + torch.where(h < 0, h * critic.extra, h),
    "double use of one layer": lambda critic, h: critic.second(h) + h,
    "checkpointing": lambda critic, h: checkpoint(
        lambda h: F.relu(h * critic.extra), h, use_reentrant=False, preserve_rng_state=False
    ),
    "a parameter that is added": lambda critic, h: h + critic.extra.square(),
    "a parameter that is subtracted from": lambda critic, h: critic.extra - h,
    "a parameter that is joined on": lambda critic, h: torch.cat([h, critic.extra.expand(len(h), 8)], 1)[:, 4:12],
    "a parameter in a maximum": lambda critic, h: torch.maximum(h, critic.extra),
    "a parameter in a clamp": lambda critic, h: torch.clamp(h, max=critic.extra),
    "a parameter in a where": lambda critic, h: torch.where(h > 0, h, critic.extra),
    "a parameter of every sample": lambda critic, h: h * torch.outer(torch.arange(len(h)).double(), critic.extra),
    "a batched product": lambda critic, h: torch.bmm(h[:, None], torch.diag(critic.extra).expand(len(h), 8, 8))[:, 0],
    "a product over three dimensions": lambda critic, h: (
        (h.reshape(-1, 2, 4) @ critic.extra.reshape(4, 2) + critic.extra[:2]).repeat(1, 2, 1).flatten(1)
    ),
    "rows beside one another": lambda critic, h: (
        F.linear(h.reshape(-1, 4), critic.extra.reshape(2, 4), critic.extra[:2]).reshape(-1, 4).repeat(1, 2)
    ),
    "addmm with factors": lambda critic, h: torch.addmm(
        critic.extra, h, critic.extra.outer(critic.extra), beta=0.5, alpha=2
    ),
    "a norm of the weights": lambda critic, h: h @ (critic.extra.outer(critic.extra) / critic.extra.norm()),
    "dimensions exchanged": lambda critic, h: h.reshape(-1, 2, 4).transpose(1, 2).permute(0, 2, 1).flatten(1),
    "a flip and a roll of features": lambda critic, h: h.flip(1) + h.roll(2, 1) - h.index_select(1, torch.arange(8)),
    "pixels shuffled": lambda critic, h: F.pixel_shuffle(h.reshape(-1, 8, 1, 1), 2).flatten(1),
    "a parameter in a divisor": lambda critic, h: h / critic.extra,
}


@pytest.mark.parametrize("name", GENERAL)
@pytest.mark.parametrize("terms", [(R1(allow_coupled=True),), (WGANGP(allow_coupled=True),)], ids=["R1", "WGANGP"])
def test_general_route(name, terms):
    result = compare(Critic(GENERAL[name]), "non_saturating", terms, *points())
    assert result.route == "general"
    assert result.reason


@pytest.mark.parametrize("name", FOUR_PASSES)
@pytest.mark.parametrize("terms", [(R1,), (R1, R2), (WGANGP,)], ids=["R1", "R1 and R2", "WGANGP"])
def test_four_passes(name, terms):
    terms = tuple(term(allow_coupled="every sample" in name) for term in terms)
    result = compare(Critic(FOUR_PASSES[name]), "relativistic_paired", terms, *points())
    assert result.route == "four passes", result.reason


def test_a_module_that_is_curved_for_small_batches_alone():
    critic = Critic(by_batch_size)
    with pytest.raises(ValueError, match="depend on the size of the batch"):
        by_backward(critic, "hinge", (R1(), R2()), *points())
    meant = (R1(allow_coupled=True), R2(allow_coupled=True))
    assert compare(critic, "hinge", meant, *points(8)).route == "four passes"
    assert compare(critic, "hinge", meant, *points(4)).route == "general"


@pytest.mark.parametrize("terms", [(R1(),), (R1(), R2()), (WGANGP(),)], ids=["R1", "R1 and R2", "WGANGP"])
@pytest.mark.parametrize("place", ["parameter", "weight made of parameters"])
def test_a_hook_on_a_weight_sees_the_sum(place, terms):
    """clamp is not additive: all gradients of the weight have to meet before the hook."""

    def product(critic, h):
        weight = critic.extra.outer(critic.extra)
        if place != "parameter":
            weight.register_hook(lambda g: g.clamp(-0.02, 0.02))
        return h @ weight

    def hooked(critic):
        if place == "parameter":
            critic.first.weight.register_hook(lambda g: g.clamp(-0.02, 0.02))
        return critic

    assert compare(Critic(product), "hinge", terms, *points(), call=hooked).route == "four passes"


def test_the_reason_for_the_general_route_is_remembered_for_a_while(monkeypatch):
    monkeypatch.setattr(sys.modules[Gradients.__module__], "LOOK_AGAIN", 2)
    critic, routes = Critic(lambda critic, h: h * h), []
    for step in range(7):
        if step == 1:
            critic.between = lambda critic, h: h
        routes.append(by_backward(critic, "hinge", (R1(), R2()), *points()).route)
    assert routes == ["general"] * 3 + ["four passes"] * 4
    assert by_backward(critic, "hinge", (R1(), R2()), *points(3)).route == "four passes"


def test_a_hook_that_is_not_linear_is_found():
    def clipped(critic, h):
        h.register_hook(lambda g: g.clamp(-0.05, 0.05))
        return h

    assert compare(Critic(lambda critic, h: h), "hinge", (R1(),), *points()).route == "four passes"
    result = compare(Critic(clipped), "hinge", (R1(),), *points())
    assert result.route == "general" and "hook" in result.reason


def test_reentrant_checkpointing_raises_as_in_autograd():
    critic = Critic(lambda critic, h: checkpoint(lambda h: h * critic.extra, h, use_reentrant=True))
    for differentiate in (by_autograd, by_backward):
        with pytest.raises(RuntimeError, match="use_reentrant"):
            differentiate(critic, "hinge", (R1(),), *points())


def test_a_parameter_that_is_not_used_keeps_no_gradient():
    critic = Critic(lambda critic, h: h)
    by_backward(critic, "hinge", (R1(),), *points())
    assert critic.unused.grad is None and critic.extra.grad is None
    assert critic.first.weight.grad is not None


def test_frozen_parameters_get_no_gradient():
    critic = Critic(lambda critic, h: h * critic.extra)
    critic.first.weight.requires_grad_(False)
    critic.extra.requires_grad_(False)
    assert compare(critic, "hinge", (R1(), R2()), *points()).route == "four passes"
    by_backward(critic, "hinge", (R1(), R2()), *points())
    assert critic.first.weight.grad is None and critic.first.bias.grad is not None


def test_several_logits_a_sample_take_the_general_route():
    critic = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 1, 1), nn.Flatten()).double()
    real, fake = points()
    result = compare(critic, "hinge", (R1(),), real[:, None], fake[:, None])
    assert result.route == "general" and "logits" in result.reason


def test_a_critic_without_its_input_raises():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1, dtype=torch.double))

        def forward(self, x):
            return self.w.expand(len(x))

    with pytest.raises(ValueError, match="must depend on its input"):
        by_backward(Constant(), "hinge", (R1(),), *points())


def test_an_in_place_change_of_a_saved_value_raises():
    def spoiled(critic, h):
        out = h * critic.extra
        h.add_(1)
        return out

    for differentiate in (by_autograd, by_backward):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            differentiate(Critic(spoiled), "hinge", (R1(),), *points())


def test_a_penalty_from_elsewhere_takes_the_general_route():
    class Squares(Penalty):
        gradients = ("real",)
        logits = ("fake",)

        def terms(self, judged, drawn, state):
            return judged.gradients["real"].pow(4).sum() + judged.logits["fake"].square().mean(), {}

    result = compare(Critic(lambda critic, h: h), "hinge", (Squares(),), *points())
    assert result.route == "general" and "Squares" in result.reason


def test_a_function_as_a_penalty_rides_along():
    def slope(critic, *, real, fake):
        x = (real + fake).requires_grad_()
        (g,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        return g.pow(4).sum()

    assert compare(Critic(lambda critic, h: h), "hinge", (R1(), slope), *points()).route == "four passes"


def test_lazy_penalties_count_their_steps():
    critic = Critic(lambda critic, h: h * critic.extra)
    terms = (R1(every=3), WGANGP(every=2), LeCam())
    for step, route in ((0, "four passes"), (1, "general"), (2, "four passes"), (3, "four passes")):
        result = compare(critic, "hinge", terms, *points(), step=step)
        assert result.route == route
        assert [term is None for term in result.terms] == [step % 3 > 0, step % 2 > 0, False]


def test_gradients_accumulate_with_a_share():
    ours, theirs = (Critic(lambda critic, h: h * critic.extra) for _ in range(2))
    for seed in (1, 2):
        by_autograd(theirs, "hinge", (R1(), WGANGP()), *points(seed=seed), share=0.5)
        by_backward(ours, "hinge", (R1(), WGANGP()), *points(seed=seed), share=0.5)
    assert_equal_gradients(ours, theirs)


def test_samples_get_no_gradient():
    real, fake = (batch.requires_grad_() for batch in points())
    by_backward(Critic(lambda critic, h: h), "hinge", (R2(),), real, fake, keep_fake_gradient=True)
    assert real.grad is None and fake.grad is None


def test_grad_mode_of_the_caller_is_neither_needed_nor_changed():
    critic = Critic(lambda critic, h: h)
    with torch.no_grad():
        by_backward(critic, "hinge", (R1(),), *points())
        assert not torch.is_grad_enabled()
    assert critic.first.weight.grad is not None


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_batch_size(size):
    critic = Critic(lambda critic, h: (h * critic.extra).reshape(-1, 2, 4).sum(1).repeat(1, 2))
    assert compare(critic, "hinge", (R1(), WGANGP()), *points(size)).route == "four passes"
