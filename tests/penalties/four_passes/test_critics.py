"""fastgan's critics, and what is put around one: packing, augmentation, precision, memory formats, DDP, compile."""

import copy
import os
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import fastgan
from fastgan import losses
from fastgan.augment import DiffAugment
from fastgan.penalties import DRAGAN, R1, R2, WGANGP, CriticDrift
from fastgan.penalties.critic import Critic, pack
from tests.penalties.four_passes.reference import assert_equal_gradients, by_autograd, by_backward, compare

ROOT = Path(__file__).parents[3]
WORLD = 2
IMAGES = ("dcgan", "sngan", "sagan", "biggan", "wgan_gp", "r3gan", "progressive", "two_stage")
CURVED = ("sagan", "biggan", "wgan_gp", "progressive")
COUPLED = {"allow_coupled": True}


def discriminator_of(name, **settings):
    torch.manual_seed(0)
    size = {"features": 2} if name == "mlp" else {"channels": 2, "resolution": 28 if name != "progressive" else 32}
    network = fastgan.models.create(name, width=16, **size, **settings).discriminator.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # some start at zero, and would hide what they do
    return network


def images(size=4, channels=2, side=28, dtype=torch.float64):
    return torch.randn(2, size, channels, side, side, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("name", fastgan.models.names())
def test_every_critic_of_fastgan(name, classes):
    if name == "pix2pix":  # has no classes: its condition is an image, and its logits are many
        network = discriminator_of(name)
        condition = images()[0] if classes is None else None
        if condition is None:
            return
    else:
        network = discriminator_of(name, classes=classes)
        condition = None if classes is None else torch.tensor([0, 1, 2, 1])
    side = {"progressive": 32}.get(name, 28)
    batches = torch.randn(2, 4, 2, dtype=torch.float64) if name == "mlp" else images(side=side)
    terms = (R1(**COUPLED), R2(**COUPLED), WGANGP(**COUPLED), CriticDrift(1.0))
    result = compare(network, "relativistic_average", terms, *batches, call=lambda module: Critic(module, condition))
    assert result.route == ("general" if name in (*CURVED, "pix2pix") else "four passes"), result.reason


@pytest.mark.parametrize("critic_activation", ["relu", "maxout", "tanh"])
def test_vector_critics(critic_activation):
    network = discriminator_of("mlp", critic_activation=critic_activation)
    result = compare(network, "wasserstein", (DRAGAN(),), *torch.randn(2, 5, 2, dtype=torch.float64))
    assert result.route == ("general" if critic_activation == "tanh" else "four passes"), result.reason


def test_packed_and_augmented_in_the_graph():
    network = discriminator_of("dcgan", pack=2, classes=3)
    labels = torch.tensor([[0, 1], [2, 1], [0, 0]])

    def call(module):
        return Critic(module, labels, DiffAugment("translation,cutout"), 2)

    real, fake = (pack(batch, 2) for batch in images(6))
    assert compare(network, "hinge", (R1(), WGANGP()), real, fake, call=call).route == "four passes"


def test_color_augmentation_in_the_graph():
    result = compare(
        discriminator_of("r3gan"), "hinge", (R1(),), *images(), call=lambda m: Critic(m, None, DiffAugment())
    )
    assert result.route == "four passes", result.reason


@pytest.mark.parametrize("normalized", [fastgan.nn.spectral_norm, torch.nn.utils.parametrizations.spectral_norm])
def test_spectral_norm_iterates_no_more_often_than_in_autograd(normalized):
    """The comparison includes the buffers u and v."""
    torch.manual_seed(0)
    curved = nn.Sequential(normalized(nn.Conv2d(2, 4, 3)), nn.SiLU(), nn.Flatten(), normalized(nn.Linear(16, 1)))
    straight = nn.Sequential(normalized(nn.Conv2d(2, 4, 3)), nn.ReLU(), nn.Flatten(), normalized(nn.Linear(16, 1)))
    for network, route in ((curved, "general"), (straight, "four passes")):
        for fused in (False, True):
            network = fastgan.nn.fuse_spectral_norm(network) if fused else network
            terms = (R1(), WGANGP())
            assert compare(network.double(), "hinge", terms, *images(3, 2, 4)).route == route


@pytest.mark.parametrize("name", ["sngan", "r3gan"])
def test_channels_last(name):
    network = discriminator_of(name).to(memory_format=torch.channels_last)
    batches = (batch.contiguous(memory_format=torch.channels_last) for batch in images())
    assert compare(network, "hinge", (R1(), R2()), *batches).route == "four passes"


@pytest.mark.parametrize("affine", [False, True])
def test_batch_norm_with_running_statistics(affine):
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(4, affine=affine), nn.BatchNorm1d(4, affine=affine)]
    network = nn.Sequential(nn.Conv2d(2, 4, 3), norms[0], nn.ReLU(), nn.Flatten(), nn.Linear(16, 4), norms[1])
    network = nn.Sequential(network, nn.LeakyReLU(0.2), nn.Linear(4, 1)).double()
    network(torch.randn(8, 2, 4, 4).double() * 2 + 1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    batches = torch.randn(2, 3, 2, 4, 4, dtype=torch.float64)
    meant = (R1(allow_coupled=True), WGANGP(allow_coupled=True))
    assert compare(network, "hinge", meant, *batches).route == "general"
    assert compare(network.eval(), "hinge", (R1(), WGANGP()), *batches).route == "four passes"


class Autocast(nn.Module):
    def __init__(self, network, dtype):
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x):
        with torch.autocast("cpu", self.dtype):
            return self.network(x)


def straight_critic():
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 16, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 32, 3, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 49, 1))


def relative_error(network, exact):
    got, expected = (torch.cat([p.grad.flatten().double() for p in n.parameters()]) for n in (network, exact))
    return ((got - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_no_less_exact_than_autograd(dtype, outside):
    """Outside: the call as a whole runs under autocast."""
    network, batches, terms = straight_critic(), images(dtype=torch.float32), (R1(), R2(), WGANGP())
    exact = copy.deepcopy(network).double()
    by_autograd(exact, "hinge", terms, *(batch.double() for batch in batches))
    errors = {}
    for differentiate in (by_autograd, by_backward):
        half = copy.deepcopy(network)
        with torch.autocast("cpu", dtype, enabled=outside):
            result = differentiate(half if outside else Autocast(half, dtype), "hinge", terms, *batches)
        errors[differentiate] = relative_error(half, exact)
    assert result.route == "four passes", result.reason
    assert 1e-5 < errors[by_backward] <= 1.5 * errors[by_autograd]


def test_grad_scaler_multiplies_the_gradients():
    network, batches, terms = straight_critic().double(), images(), (R1(), WGANGP())
    scaled, plain = copy.deepcopy(network), copy.deepcopy(network)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    result = by_backward(scaled, "hinge", terms, *batches, scaler=scaler)
    same = by_backward(plain, "hinge", terms, *batches)
    assert result.route == "four passes"
    torch.testing.assert_close(result.value, same.value, rtol=0, atol=0)
    for parameter in plain.parameters():
        parameter.grad *= 1024
    assert_equal_gradients(scaled, plain)


def test_grad_scaler_steps_and_skips_overflows():
    network = straight_critic()
    optimizer, scaler = torch.optim.SGD(network.parameters(), 1e-3), torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = [p.clone() for p in network.parameters()]
    moved = []
    for _ in range(40):
        optimizer.zero_grad(set_to_none=True)
        by_backward(Autocast(network, torch.float16), "hinge", (R1(),), *images(dtype=torch.float32), scaler=scaler)
        scaler.step(optimizer)
        scaler.update()
        moved.append(not all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True)))
    assert not moved[0] and moved[-1]
    assert all(p.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("terms", [(R2(),), (R1(), R2()), (R1(),), ()], ids=repr)
@pytest.mark.parametrize("loss", losses.names())
def test_the_generator_needs_no_pass_of_the_critic(loss, terms):
    """Simultaneous updates: the gradient with respect to the fakes is that of the critic before its step."""
    network, (real, fake) = straight_critic().double(), images()
    result = by_backward(network, loss, terms, real, fake, keep_fake_gradient=True)
    value, cotangent = result.generator_cotangent()
    leaf = fake.clone().requires_grad_()
    expected = losses.get(loss).generator(network(leaf), network(real).detach())
    (gradient,) = torch.autograd.grad(expected, leaf)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cotangent, gradient, rtol=1e-9, atol=1e-14)
    other, _ = result.generator_cotangent("non_saturating")
    torch.testing.assert_close(other, losses.get("non_saturating").generator(network(fake)).detach())


def test_batches_of_unequal_size_keep_the_gradient_at_the_fakes():
    network, (real, fake) = straight_critic().double(), images(6)
    result = compare(network, "hinge", (), real[:2], fake, keep_fake_gradient=True)
    (gradient,) = torch.autograd.grad(network(leaf := fake.clone().requires_grad_()).sum(), leaf)
    torch.testing.assert_close(result.fake_gradient, gradient)


def test_without_the_gradient_at_the_fakes_the_generator_has_no_cotangent():
    network, batches = straight_critic().double(), images()
    with pytest.raises(ValueError, match="keep_fake_gradient"):
        by_backward(network, "hinge", (R1(),), *batches).generator_cotangent()
    curved = nn.Sequential(network, nn.Tanh())
    with pytest.raises(ValueError, match="TanhBackward0"):
        by_backward(curved, "hinge", (R2(),), *batches).generator_cotangent()
    assert by_backward(network, "hinge", (R2(),), *batches).generator_cotangent()[1].shape == batches[1].shape


def test_the_graph_is_freed():
    import gc
    import weakref

    network, batches = straight_critic(), images(dtype=torch.float32)
    network.couples_samples = False  # no calls that measure the coupling
    seen = []
    network[1].register_forward_hook(lambda module, inputs, output: seen.append(weakref.ref(output)))
    gc.disable()
    try:
        result = by_backward(network, "hinge", (R1(), WGANGP()), *batches)
        assert len(seen) == 3 and all(reference() is None for reference in seen)
    finally:
        gc.enable()
    assert result.real_logits.grad_fn is None


def test_a_compiled_critic_without_a_penalty_takes_the_general_route():
    network, batches = straight_critic().double(), images()
    compiled = torch.compile(copy.deepcopy(network), backend="aot_eager")
    result = by_backward(compiled, "hinge", (), *batches, keep_fake_gradient=True)
    by_autograd(network, "hinge", (), *batches)
    assert result.route == "general"
    assert_equal_gradients(compiled._orig_mod, network)


def test_a_compiled_critic_raises_with_a_penalty_as_in_autograd():
    """torch.compile has no second derivative of its graphs."""
    compiled = torch.compile(straight_critic().double(), backend="aot_eager")
    for differentiate in (by_autograd, by_backward):
        with pytest.raises(RuntimeError, match="backward"):
            differentiate(compiled, "hinge", (R1(),), *images())


def differentiate(rank, folder, shared, batches):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    model = copy.deepcopy(shared)
    half = [batch.chunk(WORLD)[rank] for batch in batches]
    parallel = DistributedDataParallel(model)
    result = by_backward(parallel, "hinge", (R1(2.0), R2(2.0), CriticDrift(1.0)), *half)
    assert result.route == "four passes", result.reason
    torch.save([p.grad for p in model.parameters()], folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)


def test_two_processes_equal_one_on_the_whole_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    network, batches = straight_critic().double(), images(6)
    torch.multiprocessing.spawn(differentiate, args=(tmp_path, network, batches), nprocs=WORLD)
    by_autograd(network, "hinge", (R1(2.0), R2(2.0), CriticDrift(1.0)), *batches)
    for rank in range(WORLD):
        for got, parameter in zip(torch.load(tmp_path / f"{rank}.pt"), network.parameters(), strict=True):
            torch.testing.assert_close(got, parameter.grad, rtol=1e-9, atol=1e-13)
