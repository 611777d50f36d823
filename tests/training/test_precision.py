"""fp32, tf32, bf16 and fp16, as a field of the recipe."""

import pytest
import torch
from torch import nn

from fastgan import Recipe, Trainer
from fastgan.training.recipe.presets import RECIPES
from fastgan.training.step.precision import Precision

POINTS = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_in_bf16_is_near_one_in_fp32(name, toy, tmp_path):
    found = []
    for precision in ("fp32", "bf16"):
        trainer = toy.named_trainer(name, tmp_path / precision, precision=precision)
        trainer.fit(1)
        found.append(trainer)
    (exact,), (near,) = (trainer.callbacks[0].values for trainer in found)
    assert exact.keys() == near.keys()
    for key, value in near.items():
        assert value.dtype == torch.float32, key
        torch.testing.assert_close(value, exact[key], rtol=0.05, atol=0.05, msg=key)
    for network in found[1].state.networks().values():
        assert all(p.isfinite().all() and p.dtype == torch.float32 for p in network.parameters())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_is_around_the_networks_alone(precision, toy, tmp_path):
    generator, discriminator = toy.pair()
    seen = []
    generator.layers[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    discriminator.layers[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))

    def penalty(critic, *, real, fake):
        assert not torch.is_autocast_enabled("cpu")
        logits = critic(real)
        assert (real.dtype, fake.dtype, logits.dtype) == (torch.float32,) * 3
        return logits.square().mean()

    recipe = Recipe(batch_size=8, precision=precision, penalties=(penalty,), spectral_norm="none")
    toy.trainer_of(recipe, (generator, discriminator), POINTS, tmp_path).fit(2)
    assert set(seen) == {torch.bfloat16 if precision == "bf16" else torch.float16}


class Overflows(nn.Module):
    """Has a derivative beyond fp16 when told to."""

    def __init__(self, discriminator):
        super().__init__()
        self.discriminator, self.factor, self.couples_samples = discriminator, 1.0, False

    def forward(self, x):
        return self.discriminator(x * self.factor)


def test_fp16_skips_a_step_whose_gradients_overflow_and_says_so(toy, tmp_path):
    generator, discriminator = toy.pair()
    discriminator = Overflows(discriminator)
    recipe = Recipe(batch_size=8, precision="fp16", penalties=("R1(gamma=1.0)",), spectral_norm="none")
    trainer = toy.trainer_of(recipe, (generator, discriminator), POINTS, tmp_path)
    for scaler in trainer.state.scalers.values():
        scaler.load_state_dict(scaler.state_dict() | {"scale": 1024.0})
    trainer.fit(2)
    before = [p.detach().clone() for p in discriminator.parameters()]
    discriminator.factor = 3e3
    trainer.fit(3)
    discriminator.factor = 1.0
    assert all(torch.equal(p, b) for p, b in zip(discriminator.parameters(), before, strict=True))
    trainer.fit(4)
    assert not all(torch.equal(p, b) for p, b in zip(discriminator.parameters(), before, strict=True))
    logged = trainer.callbacks[0].values
    assert [float(values["d_skipped"]) for values in logged] == [0, 0, 1, 0]
    assert [float(values["d_scale"]) for values in logged] == [1024, 1024, 1024, 512]


def test_an_fp16_run_goes_on_with_its_scales(toy, tmp_path):
    recipe = Recipe(batch_size=8, precision="fp16", penalties=("R1(gamma=1.0)",), spectral_norm="none")
    options = {"device": "cpu", "progress": False, "checkpoint_every": 3, "sample_every": 100}
    whole = Trainer(*toy.pair(), recipe, POINTS, run_dir=tmp_path / "whole", **options)
    whole.fit(6)
    first = Trainer(*toy.pair(), recipe, POINTS, run_dir=tmp_path / "parts", **options)
    first.fit(3)
    parts = Trainer(*toy.pair(seed=1), recipe, POINTS, run_dir=tmp_path / "parts", resume=True, **options)
    assert scales_of(parts) == scales_of(first) != scales_of(whole)
    parts.fit(6)
    assert scales_of(parts) == scales_of(whole)
    for name, network in whole.state.networks().items():
        for a, b in zip(network.parameters(), parts.state.networks()[name].parameters(), strict=True):
            assert torch.equal(a, b)


def scales_of(trainer):
    return [scaler.state_dict() for scaler in trainer.state.scalers.values()]


def test_a_device_that_cannot_says_what_it_lacks(toy, tmp_path):
    with pytest.raises(ValueError, match=r'precision="tf32" needs an NVIDIA GPU .* got the device \'cpu\'; use'):
        Trainer(*toy.pair(), Recipe(precision="tf32"), POINTS, run_dir=tmp_path, device="cpu")
    with pytest.raises(ValueError, match="precision must be one of fp32, tf32, bf16, fp16; got 'fp8'"):
        Recipe(precision="fp8")


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("set_by", ["nobody", "an older switch", "a newer switch"])
def test_torchs_switches_are_set_around_a_run_only(name, set_by, monkeypatch):
    """In a process of its own torch keeps them; here they are given back by the test."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))

    def switches():
        return matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision

    def older():
        return matmul.allow_tf32, cudnn.allow_tf32

    first, first_older = switches(), older()
    try:
        if set_by == "an older switch":
            matmul.allow_tf32 = True
        elif set_by == "a newer switch":
            matmul.fp32_precision = "tf32"  # from here on reading the older one raises
        before = switches()
        with Precision(name, torch.device("cuda")).switched():
            assert set(switches()) == {"tf32" if name == "tf32" else "ieee"}
            assert older() == (name == "tf32",) * 2
        assert switches() == before
        if set_by != "a newer switch":
            assert older() == ((True, first_older[1]) if set_by == "an older switch" else first_older)
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = first_older
        matmul.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = first


@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_an_old_gpu_is_refused(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old GPU")
    with pytest.raises(ValueError, match="compute capability 8 or newer"):
        Precision(name, torch.device("cuda"))
