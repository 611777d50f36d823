"""fastgan.nn.convert_spectral_norm: torch's spectral norms become fastgan's, and nobody notices."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import fastgan
from fastgan.nn.spectral.parametrization import SpectralNorm


def count(model, kind):
    return sum(isinstance(module, kind) for module in model.modules())


def test_torchs_parametrization_goes_on_with_the_same_numbers(critic, batch, assert_same):
    theirs = critic(parametrizations.spectral_norm)
    theirs(*batch)
    model = copy.deepcopy(theirs)
    assert fastgan.nn.convert_spectral_norm(model) is model
    assert count(model, SpectralNorm) == 4 and count(model, parametrizations._SpectralNorm) == 0
    assert model.linear.parametrizations.weight[0].n_power_iterations == 2
    for m in (theirs, model):
        for _ in range(2):
            m(*batch).square().sum().backward()
    assert_same(theirs, model)


def test_torchs_old_hook_gives_the_same_numbers_in_eval(critic, batch):
    theirs = critic(nn.utils.spectral_norm)
    for _ in range(3):
        theirs(*batch)
    theirs.eval()
    theirs(*batch).square().sum().backward()
    parameters = {p for p in theirs.parameters()}
    output, gradients = theirs(*batch), {p: p.grad.clone() for p in parameters}
    theirs.zero_grad()

    model = fastgan.nn.convert_spectral_norm(theirs)
    assert set(model.parameters()) == parameters  # the very same: an optimiser goes on
    assert list(model.state_dict()) == list(critic(parametrizations.spectral_norm).state_dict())
    assert not any(m._forward_pre_hooks or m._state_dict_hooks for m in model.modules())
    assert torch.allclose(model(*batch), output, rtol=1e-12)
    model(*batch).square().sum().backward()
    for p in parameters:
        assert torch.allclose(p.grad, gradients[p], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("spectral_norm", [nn.utils.spectral_norm, parametrizations.spectral_norm])
def test_nothing_iterates_and_no_random_number_is_drawn(critic, spectral_norm):
    model = critic(spectral_norm)
    before = [b.clone() for b in model.buffers()]
    torch.manual_seed(7)
    state = torch.get_rng_state()
    fastgan.nn.convert_spectral_norm(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))


@pytest.mark.parametrize("spectral_norm", [nn.utils.spectral_norm, parametrizations.spectral_norm])
def test_a_converted_model_is_fastgans_in_full(critic, spectral_norm, batch):
    model = fastgan.nn.fuse_spectral_norm(fastgan.nn.convert_spectral_norm(critic(spectral_norm)))
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(model(*batch), twin(*batch))
    parametrize.remove_parametrizations(copy.deepcopy(model).conv, "weight")
    model(*batch).sum().backward()


def test_mode_settings_and_dim_are_kept():
    layer = parametrizations.spectral_norm(nn.Conv2d(3, 4, 3), n_power_iterations=3, eps=1e-3, dim=1).eval()
    norm = fastgan.nn.convert_spectral_norm(layer).parametrizations.weight[0]
    assert (norm.n_power_iterations, norm.eps, norm.dim, norm.training) == (3, 1e-3, 1, False)
    layer = nn.utils.spectral_norm(nn.ConvTranspose2d(3, 4, 3), n_power_iterations=3, eps=1e-3).eval()
    norm = fastgan.nn.convert_spectral_norm(layer).parametrizations.weight[0]
    assert (norm.n_power_iterations, norm.eps, norm.dim, norm.training) == (3, 1e-3, 1, False)


def test_vectors_and_other_parametrizations_are_kept():
    model = nn.Sequential(
        parametrizations.spectral_norm(nn.BatchNorm1d(3)), parametrizations.orthogonal(nn.Linear(3, 3))
    )
    expected = [model[0].weight.clone(), model[1].weight.clone()]
    fastgan.nn.convert_spectral_norm(model)
    assert count(model, SpectralNorm) == 1
    assert torch.allclose(model[0].weight, expected[0]) and torch.equal(model[1].weight, expected[1])


def test_a_model_without_spectral_norm_is_left_alone():
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    before = pickle.dumps(model)
    with pytest.warns(UserWarning, match="changed nothing"):
        assert pickle.dumps(fastgan.nn.convert_spectral_norm(model)) == before
