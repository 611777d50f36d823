"""SNConv2d and its family: torch's layers in every respect but the weight."""

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import fastgan

ARGUMENTS = {
    "Conv1d": ((3, 4, 3), {"padding": 1, "bias": False}),
    "Conv2d": ((4, 6, (3, 2)), {"stride": 2, "groups": 2, "padding_mode": "circular", "padding": 1}),
    "Conv3d": ((2, 3, 2), {"dilation": 2}),
    "ConvTranspose1d": ((3, 4, 3), {"stride": 2, "output_padding": 1}),
    "ConvTranspose2d": ((3, 4, 4), {"stride": 2, "padding": 1}),
    "ConvTranspose3d": ((2, 3, 2), {}),
    "Linear": ((5, 4), {"bias": False}),
    "Embedding": ((7, 4), {"padding_idx": 2}),
}


@pytest.fixture(params=ARGUMENTS)
def layer(request):
    """(torch's layer class, fastgan's, arguments, keyword arguments)"""
    args, kwargs = ARGUMENTS[request.param]
    return (
        getattr(nn, request.param),
        getattr(fastgan.nn, f"SN{request.param}"),
        args,
        {**kwargs, "dtype": torch.float64},
    )


def test_it_is_torchs_layer_with_torchs_spectral_norm(layer):
    base, ours, args, kwargs = layer
    torch.manual_seed(0)
    theirs = parametrizations.spectral_norm(base(*args, **kwargs))
    torch.manual_seed(0)
    mine = ours(*args, **kwargs)
    assert isinstance(mine, base) and isinstance(mine, ours)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(a, b, rtol=1e-10)
    assert torch.allclose(mine.weight, theirs.weight, rtol=1e-10)


def test_state_dict_loads_both_ways_strictly(layer):
    base, ours, args, kwargs = layer
    theirs, mine = parametrizations.spectral_norm(base(*args, **kwargs)).eval(), ours(*args, **kwargs).eval()
    mine.load_state_dict(theirs.state_dict(), strict=True)
    assert torch.allclose(mine.weight, theirs.weight, rtol=1e-10)
    again = parametrizations.spectral_norm(base(*args, **kwargs)).eval()
    again.load_state_dict(mine.state_dict(), strict=True)
    assert torch.allclose(again.weight, theirs.weight, rtol=1e-10)


def test_it_can_be_pickled_and_copied(layer):
    _, ours, args, kwargs = layer
    mine = ours(*args, **kwargs)
    for twin in (pickle.loads(pickle.dumps(mine)), copy.deepcopy(mine)):
        assert isinstance(twin, ours) and repr(twin) == repr(mine)
        assert torch.equal(twin.eval().weight, copy.deepcopy(mine).eval().weight)


def test_remove_parametrizations_gives_a_plain_layer(layer):
    _, ours, args, kwargs = layer
    mine = ours(*args, **kwargs).eval()
    weight = mine.weight.detach().clone()
    parametrize.remove_parametrizations(mine, "weight")
    assert torch.equal(mine.weight, weight) and "parametrizations" not in repr(mine)


def test_the_synonyms():
    for layer in (fastgan.nn.SNLinear(3, 2, num_itrs=4, num_svs=1), fastgan.nn.SNLinear(3, 2, n_power_iterations=4)):
        assert layer.parametrizations.weight[0].n_power_iterations == 4
    assert fastgan.nn.SNLinear(3, 2, eps=1e-4).parametrizations.weight[0].eps == 1e-4


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"num_svs must be 1 .* got 2"):
        fastgan.nn.SNConv2d(3, 4, 3, num_svs=2)
    with pytest.raises(ValueError, match="num_itrs=3 and n_power_iterations=2"):
        fastgan.nn.SNConv2d(3, 4, 3, n_power_iterations=2, num_itrs=3)
    with pytest.raises(ValueError, match="n_power_iterations"):
        fastgan.nn.SNConv2d(3, 4, 3, num_itrs=0)
    with pytest.raises(TypeError, match="strides"):
        fastgan.nn.SNConv2d(3, 4, 3, strides=2)


def test_embedding_from_pretrained():
    table = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    layer = fastgan.nn.SNEmbedding.from_pretrained(table)
    assert torch.allclose(layer.weight, table / torch.linalg.matrix_norm(table, 2), atol=1e-3)
    assert not layer.parametrizations.weight.original.requires_grad


def test_the_signature_is_torchs_and_the_settings(layer):
    base, ours, _, _ = layer
    theirs, mine = inspect.signature(base).parameters, inspect.signature(ours).parameters
    assert list(mine) == [*theirs, "n_power_iterations", "eps", "num_itrs", "num_svs"]
    assert all(mine[name] == parameter for name, parameter in theirs.items())

    class Own(ours):
        def __init__(self, width):
            pass

    assert list(inspect.signature(Own).parameters) == ["width"]


def test_skip_init():
    layer = torch.nn.utils.skip_init(fastgan.nn.SNConv2d, 3, 4, 3, n_power_iterations=2)
    layer.load_state_dict(fastgan.nn.SNConv2d(3, 4, 3).state_dict())
    assert layer(torch.randn(1, 3, 5, 5)).isfinite().all()
