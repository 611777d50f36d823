"""How often a step runs the critic's convolutions, counted where they are dispatched, and what memory it takes."""

import copy
from collections import Counter
from functools import partial

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan import losses, penalties
from fastgan.penalties import R1, R2, WGANGP
from tests.penalties.four_passes.reference import by_autograd

LAYERS = 3
backward = partial(penalties.backward, route="four passes")  # however small the critic is


class Convolutions(TorchDispatchMode):
    """Counts convolutions: "map" for y = W a and its like, "data" and "weight" for the two gradients."""

    def __init__(self):
        super().__init__()
        self.count = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default:
            self.count["map"] += 1
        if function is torch.ops.aten.convolution_backward.default:
            data, weight, _ = args[-1]
            self.count += Counter(data=int(data), weight=int(weight))
        return function(*args, **(kwargs or {}))


def critic_of(width=4):
    torch.manual_seed(0)
    layers = []
    for before, after in ((2, width), (width, width), (width, width)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(width * 4, 1))


def loss_alone(critic, real, fake):
    logits = critic(torch.cat([real, fake])).chunk(2)
    losses.get("relativistic_paired").discriminator(*logits).backward()


def counted(step, *args, **kwargs):
    with Convolutions() as convolutions:
        step(*args, **kwargs)
    return dict(convolutions.count)


@pytest.mark.parametrize("keep", [False, True])
def test_four_passes_of_the_convolutions_and_no_more(keep):
    critic, (real, fake) = critic_of(), torch.randn(2, 3, 2, 8, 8)
    terms = (R1(), R2())
    given = {"real": real, "fake": fake, "keep_fake_gradient": keep}
    backward(critic, "relativistic_paired", terms, **given)  # the first step of a structure checks it by further passes
    # The input of the loss alone wants no gradient: its first layer computes none.
    assert counted(loss_alone, critic, real, fake) == {"map": LAYERS, "data": LAYERS - 1, "weight": LAYERS}
    assert counted(backward, critic, "relativistic_paired", terms, **given) == {
        "map": 2 * LAYERS,  # forward and tangent
        "data": LAYERS,
        "weight": LAYERS,
    }
    # The shared loop in plain autograd makes six: torch computes the penalty's weight gradient by a convolution, too.
    assert counted(by_autograd, critic, "relativistic_paired", terms, real, fake) == {
        "map": 3 * LAYERS,
        "data": 2 * LAYERS,
        "weight": LAYERS,
    }


def test_the_general_route_can_be_chosen():
    critic, (real, fake) = critic_of(), torch.randn(2, 3, 2, 8, 8)
    given = {"real": real, "fake": fake}
    chosen = penalties.backward(critic, "hinge", (R1(), R2()), route="general", **given)
    assert chosen.route == "general"
    with pytest.raises(ValueError, match="route must be"):
        penalties.backward(critic, "hinge", (R1(),), route="shortest", **given)


def test_small_critics_take_the_general_route_unless_four_passes_are_chosen():
    real, fake = torch.randn(2, 32, 2, 16, 16)
    given = {"real": real, "fake": fake}
    for width, route in ((2, "general"), (32, "four passes")):
        critic = nn.Sequential(*critic_of(width)[:-1], nn.Linear(width * 16, 1))
        assert penalties.backward(critic, "hinge", (R1(), R2()), **given).route == route
        assert backward(critic, "hinge", (R1(), R2()), **given).route == "four passes"


@pytest.mark.parametrize("term", [WGANGP(), R1(), R2()], ids=repr)
def test_a_penalty_of_half_the_batch_takes_four_passes_of_a_half(term):
    critic, (real, fake) = critic_of(), torch.randn(2, 3, 2, 8, 8)
    backward(critic, "wasserstein", (term,), real=real, fake=fake)
    assert counted(backward, critic, "wasserstein", (term,), real=real, fake=fake) == {
        "map": 3 * LAYERS,  # the loss's forward, the penalty's, and its tangent
        "data": 2 * LAYERS - 1,
        "weight": 2 * LAYERS,
    }


def test_the_gradient_at_the_fakes_takes_no_further_pass():
    critic, (real, fake) = critic_of(), torch.randn(2, 3, 2, 8, 8)
    given = {"real": real, "fake": fake, "keep_fake_gradient": True}
    backward(critic, "hinge", **given)
    assert counted(backward, critic, "hinge", **given) == {"map": LAYERS, "data": LAYERS, "weight": LAYERS}


def peak_memory(step):
    """Bytes above those at the start, from the allocator's events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    now = most = 0
    for event in sorted(profiled.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize(
    "terms", [(R1(), R2()), (WGANGP(),), (R1(),), (R2(),)], ids=["R1 and R2", "WGANGP", "R1", "R2"]
)
def test_peak_memory_is_that_of_autograd_or_less(terms):
    critic, (real, fake) = critic_of(32), torch.randn(2, 4, 2, 32, 32)
    critic[-1] = nn.Linear(32 * 64, 1)
    step = {"real": real, "fake": fake}
    backward(copy.deepcopy(critic), "relativistic_paired", terms, **step)
    ours = peak_memory(lambda: backward(critic, "relativistic_paired", terms, **step))
    critic.zero_grad(set_to_none=True)
    theirs = peak_memory(lambda: by_autograd(critic, "relativistic_paired", terms, real, fake))
    assert 1e6 < ours <= 1.01 * theirs  # gradients of weights wait until all are there


def test_a_critic_that_is_a_new_function_in_each_step_is_checked_once():
    network, (real, fake) = critic_of(), torch.randn(2, 3, 2, 8, 8)
    steps = [counted(backward, lambda x: network(x), "hinge", (R1(), R2()), real=real, fake=fake) for _ in range(3)]
    assert steps[1] == steps[2] and sum(steps[1].values()) == 4 * LAYERS
