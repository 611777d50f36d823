"""Initialising a spectrally normalised layer: what is written to the computed weight reaches the parameter."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import fastgan
from fastgan.nn import SNConv2d, SNConvTranspose2d, SNEmbedding, SNLinear

INITIALISATIONS = {
    "normal": lambda w: nn.init.normal_(w, 0.0, 0.02),
    "data normal": lambda w: nn.init.normal_(w.data, 1.0, 0.02),
    "orthogonal": lambda w: nn.init.orthogonal_(w, gain=0.3),
    "xavier": lambda w: nn.init.xavier_uniform_(w.data, gain=0.3),
    "kaiming": lambda w: nn.init.kaiming_uniform_(w, 0.2),
    "kaiming normal": lambda w: nn.init.kaiming_normal_(w),
    "truncated": lambda w: nn.init.trunc_normal_(w, std=0.1),
    "constant": lambda w: nn.init.constant_(w, 0.5),
    "ones": lambda w: nn.init.ones_(w),
    "data method": lambda w: w.data.normal_(0, 0.02),
    "data and arithmetic": lambda w: w.data.uniform_(-1, 1).mul_(0.1),
    "data assigned": lambda w: setattr(w, "data", torch.full_like(w, 0.25)),
}


def original(layer):
    return layer.parametrizations.weight.original


def assert_settled(layer):
    """The vectors are the leading singular vectors: the weight has spectral norm 1."""
    layer.eval()
    matrix = layer.weight.movedim(layer.parametrizations.weight[0].dim, 0).flatten(1)
    assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("initialise", INITIALISATIONS.values(), ids=INITIALISATIONS)
@pytest.mark.parametrize(
    "build",
    [
        lambda: SNConv2d(3, 8, 4),
        lambda: fastgan.nn.spectral_norm(nn.ConvTranspose2d(8, 3, 4)),
        lambda: fastgan.nn.convert_spectral_norm(parametrizations.spectral_norm(nn.Linear(6, 5))),
        lambda: fastgan.nn.convert_spectral_norm(nn.utils.spectral_norm(nn.Linear(6, 5))),
        lambda: copy.deepcopy(SNLinear(6, 5)),
        lambda: pickle.loads(pickle.dumps(SNLinear(6, 5))),
        lambda: SNConv2d(3, 8, 1).to(memory_format=torch.channels_last),
    ],
    ids=["layer", "transposed", "converted", "converted from the old one", "copied", "unpickled", "channels last"],
)
def test_an_initialisation_gives_the_numbers_of_a_plain_layers(build, initialise):
    layer = build()
    plain = nn.Parameter(torch.empty_like(original(layer)))
    torch.manual_seed(0)
    initialise(plain)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        initialise(layer.weight)
    assert torch.equal(original(layer), plain)
    assert type(original(layer)) is nn.Parameter
    assert_settled(layer)


def test_weights_init_of_the_dcgan_tutorial():
    def weights_init(m):
        if "Conv" in type(m).__name__:
            nn.init.normal_(m.weight.data, 0.0, 0.02)

    model = nn.Sequential(SNConvTranspose2d(4, 64, 4), SNConv2d(64, 64, 3)).apply(weights_init)
    assert all(original(layer).std().item() == pytest.approx(0.02, rel=0.05) for layer in model)


def test_reset_parameters_is_that_of_the_plain_layer():
    for layer, plain in ((SNLinear(6, 5), nn.Linear(6, 5)), (SNEmbedding(9, 4, 2), nn.Embedding(9, 4, 2))):
        for m in (layer, plain):
            torch.manual_seed(3)
            m.reset_parameters()
        assert torch.equal(original(layer), plain.weight)  # the embedding: one row is set on its own
        assert_settled(layer)


def test_a_layer_made_on_the_meta_device_is_initialised_by_reset_parameters():
    with torch.device("meta"):
        layer = SNLinear(64, 4)
    layer.to_empty(device="cpu")
    for garbage in (float("nan"), 0.0, 7.0):
        for tensor in layer.state_dict().values():
            tensor.fill_(garbage)
        layer.reset_parameters()
        assert original(layer).abs().max() <= 1 / 8
        assert_settled(layer)


def test_a_part_is_written_to_the_same_part():
    layer = SNConv2d(3, 4, 3).to(memory_format=torch.channels_last)
    before = original(layer).detach().clone()
    layer.weight.data[1:3, :, 0].zero_()
    before[1:3, :, 0] = 0
    assert torch.equal(original(layer), before)


def test_assignment_lets_the_vectors_follow():
    a, b = SNLinear(6, 5), SNLinear(6, 5)
    b.weight = 3 * torch.randn(5, 6)
    assert_settled(b)
    b.weight = a.eval().weight
    assert torch.equal(original(b), a.weight)


def test_a_computation_with_the_weight_does_not_change_it():
    layer = SNLinear(6, 5)
    before = original(layer).detach().clone()
    weight = layer.weight
    weight *= 2
    weight[0] = 0
    weight.square().sum().backward()
    assert torch.equal(original(layer), before) and original(layer).grad is not None
    with torch.no_grad(), pytest.warns(UserWarning, match="changes a copy"):
        layer.weight.mul_(2)
    assert torch.equal(original(layer), before)


def test_what_is_computed_from_the_weight_is_a_plain_tensor_with_the_same_derivatives():
    layer = SNLinear(6, 5).double().eval()
    x = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    outside = nn.functional.linear(x, layer.weight, layer.bias)  # a parent that reads its child's weight
    inside = layer(x)
    assert type(outside) is torch.Tensor and torch.equal(outside, inside)
    for y in (outside, inside):
        (g,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        layer.zero_grad()
        g.square().sum().backward()
        gradient = original(layer).grad.clone()
    layer.zero_grad()
    (g,) = torch.autograd.grad(nn.functional.linear(x, layer.weight, layer.bias).square().sum(), x, create_graph=True)
    g.square().sum().backward()
    assert torch.allclose(original(layer).grad, gradient, rtol=1e-12)


def test_inside_of_forward_the_weight_is_plain():
    seen = []

    class Layer(nn.Linear):
        def forward(self, x):
            seen.append(type(self.weight))
            return super().forward(x)

    fastgan.nn.spectral_norm(Layer(3, 2))(torch.randn(1, 3))
    assert seen == [torch.Tensor]


def test_copies_pickles_and_prints_of_the_weight_are_plain_tensors():
    layer = SNLinear(3, 2).eval()
    original(layer).requires_grad_(False)
    weight = layer.weight
    for twin in (copy.deepcopy(weight), pickle.loads(pickle.dumps(weight))):
        assert type(twin) is torch.Tensor and torch.equal(twin, weight)
    assert repr(weight).startswith("tensor(")


def test_a_list_of_two_parametrizations_is_left_to_torch():
    layer = SNLinear(3, 3)
    parametrize.register_parametrization(layer, "weight", nn.Identity())
    assert type(layer.weight) is torch.Tensor
