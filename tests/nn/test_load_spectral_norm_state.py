"""fastgan.nn.load_spectral_norm_state: six ways to write down the same critic."""

from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import fastgan

NORMALISED = ("conv", "up", "linear", "label")


def written(model, scheme):
    """The critic's checkpoint in another naming, made from the definitions of the namings."""
    state = OrderedDict(model.state_dict())
    for layer in NORMALISED:
        prefix = f"{layer}.parametrizations.weight."
        weight, u, v = (state.pop(prefix + key) for key in ("original", "0._u", "0._v"))
        matrix = weight.transpose(0, 1).flatten(1) if layer == "up" else weight.flatten(1)
        sigma = (u @ matrix @ v).reshape(1)
        named = {
            "torch old": {"weight_orig": weight, "weight_u": u, "weight_v": v},
            "torch new": {
                f"parametrizations.weight.{k}": t for k, t in [("original", weight), ("0._u", u), ("0._v", v)]
            },
            "biggan": {"weight": weight, "u0": u[None], "sv0": sigma},
            "mimicry": {"weight": weight, "sn_u": u[None], "sn_sigma": sigma},
            "weight_bar": {"weight_bar": weight, "weight_u": u, "weight_v": v},
            "weight_bar, wrapped": {"module.weight_bar": weight, "module.weight_u": u, "module.weight_v": v},
            "w_bar": {"w_bar": weight, "u": u[None], "v": v[:, None]},
        }[scheme]
        if "wrapped" in scheme and f"{layer}.bias" in state:
            named["module.bias"] = state.pop(f"{layer}.bias")
        state.update({f"{layer}.{key}": tensor for key, tensor in named.items()})
    return state


SCHEMES = ["torch old", "torch new", "biggan", "mimicry", "weight_bar", "weight_bar, wrapped", "w_bar"]


@pytest.mark.parametrize("target", [fastgan.nn.spectral_norm, parametrizations.spectral_norm])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_naming_is_read(scheme, target, critic, batch):
    saved = critic()
    for _ in range(20):
        saved(*batch)  # u and v belong together
    saved.eval()
    model = critic(target).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(0.5)
    result = fastgan.nn.load_spectral_norm_state(model, written(saved, scheme))
    assert result.missing_keys == result.unexpected_keys == []
    for (name, a), b in zip(saved.state_dict().items(), model.state_dict().values(), strict=True):
        # v is computed from u by the namings that have none
        assert torch.equal(a, b) if "_v" not in name else torch.allclose(a, b, rtol=1e-9), name
    assert torch.allclose(model(*batch), saved(*batch), rtol=1e-9)


def test_a_checkpoint_of_torchs_old_hook_is_read(critic, batch):
    saved = critic(nn.utils.spectral_norm)
    saved(*batch)
    model = critic().eval()
    fastgan.nn.load_spectral_norm_state(model, saved.eval().state_dict())
    assert torch.allclose(model(*batch), saved(*batch), rtol=1e-10)


def test_a_checkpoint_of_a_wrapper_is_read(batch):
    """The wrapper of many SAGAN repositories, from its definition: W / u^T W v with parameters u, v next to W."""

    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module
            weight = module.weight
            del module.weight
            module.weight_bar = weight
            module.weight_u = nn.Parameter(F.normalize(torch.randn(weight.shape[0]), dim=0), requires_grad=False)
            module.weight_v = nn.Parameter(F.normalize(torch.randn(weight[0].numel()), dim=0), requires_grad=False)

        def forward(self, x):
            m = self.module
            m.weight = m.weight_bar / (m.weight_u @ m.weight_bar.flatten(1) @ m.weight_v)
            return m(x)

    saved = nn.Sequential(
        Wrapper(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4), nn.Flatten(), Wrapper(nn.Linear(16, 1))
    ).eval()
    model = nn.Sequential(
        fastgan.nn.SNConv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), fastgan.nn.SNLinear(16, 1)
    ).eval()
    fastgan.nn.load_spectral_norm_state(model, saved.state_dict())
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(model(x), saved(x), atol=1e-5)


def test_a_single_layer_is_read():
    saved = nn.utils.spectral_norm(nn.Linear(4, 3))
    model = fastgan.nn.SNLinear(4, 3)
    fastgan.nn.load_spectral_norm_state(model, saved.state_dict())
    assert torch.equal(model.parametrizations.weight.original, saved.weight_orig)


def test_the_argument_is_left_as_it_was(critic):
    state = written(critic(), "biggan")
    keys = list(state)
    fastgan.nn.load_spectral_norm_state(critic(), state)
    assert list(state) == keys


def test_missing_and_unexpected_keys_are_reported_as_torch_reports_them(critic):
    state = written(critic(), "torch old")
    del state["conv.weight_v"], state["up.weight_u"]
    state["extra"] = torch.zeros(1)
    with pytest.raises(RuntimeError) as error:
        fastgan.nn.load_spectral_norm_state(critic(), state)
    for text in (
        r'Missing key(s) in state_dict: "conv.parametrizations.weight.0._v"',
        '"up.parametrizations.weight.0._u"',
        r"Unexpected key(s) in state_dict: ",
        '"extra"',
        '"up.weight_orig"',
    ):
        assert text in str(error.value)
    result = fastgan.nn.load_spectral_norm_state(critic(), state, strict=False)
    assert "conv.parametrizations.weight.0._v" in result.missing_keys and "extra" in result.unexpected_keys


@pytest.mark.parametrize("scheme", ["biggan", "torch old"])
def test_a_wrong_shape_is_reported_as_torch_reports_it(scheme, critic):
    state = written(critic(), scheme)
    key = "conv.u0" if scheme == "biggan" else "conv.weight_u"
    state[key] = torch.ones(1, 5, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"size mismatch for conv.parametrizations.weight.0._u"):
        fastgan.nn.load_spectral_norm_state(critic(), state)


def test_more_singular_vectors_are_not_dropped_in_silence(critic):
    state = written(critic(), "biggan")
    state["conv.u1"] = state["conv.u0"]
    with pytest.raises(RuntimeError, match=r"Unexpected key.*conv\.u1"):
        fastgan.nn.load_spectral_norm_state(critic(), state)


def test_a_shared_layer_is_loaded_under_each_of_its_names():
    """torch's state_dict has a shared layer once for each place."""
    layer = torch.nn.utils.spectral_norm(torch.nn.Linear(4, 4))
    old = torch.nn.Sequential(layer, torch.nn.ReLU(), layer)
    x = torch.randn(3, 4)
    old(x)
    ours = fastgan.nn.SNLinear(4, 4)
    model = torch.nn.Sequential(ours, torch.nn.ReLU(), ours)
    fastgan.nn.load_spectral_norm_state(model, old.state_dict())
    torch.testing.assert_close(model.eval()(x), old.eval()(x))
