"""fastgan.ops.bias_act: its table and special values; tests/contract has what it shares with all ops."""

import math

import pytest
import torch

from fastgan import ops
from fastgan.nn import BiasAct
from fastgan.ops.bias_act import ACTIVATIONS
from tests.contract.bias_act import PLAIN, case, plain


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_table_is_true(act):
    """The saved tensor is that of the table, and a second derivative exists exactly if the table has it."""
    x = case(act).tensors()["x"].requires_grad_()
    y = ops.bias_act(x, act=act)
    saved = y.grad_fn.saved_tensors[0]
    expected = {"x": x, "y": y, "nothing": None}[ACTIVATIONS[act].saves]
    assert saved is expected or saved.data_ptr() == expected.data_ptr()
    curvature = torch.func.grad(torch.func.grad(lambda z: PLAIN[act](z, 0.2)))(torch.tensor(0.7))
    negative = torch.func.grad(torch.func.grad(lambda z: PLAIN[act](z, 0.2)))(torch.tensor(-0.7))
    assert ACTIVATIONS[act].curved == bool(curvature != 0 or negative != 0)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_derivatives_at_zero_are_torch_s(act):
    """The kinks of relu, leaky_relu and elu lie there."""
    results = []
    for function in (ops.bias_act, plain):
        z = torch.tensor([0.0, -0.0, 1e-30, -1e-30], dtype=torch.float64).requires_grad_()
        (first,) = torch.autograd.grad(function(z, act=act, alpha=0.7).sum(), z, create_graph=True)
        second = torch.autograd.grad(first.sum(), z, materialize_grads=True) if first.requires_grad else (0 * z,)
        results.append((first, *second))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_special_values_are_those_of_the_mathematics(act):
    """As torch has them in fp64; its vectorised fp32 gelu makes a NaN of +inf on some processors."""
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0] * 3)
    if act in ("silu", "gelu"):  # -inf * 0: NaN in torch; ours may be NaN as well, nothing else
        x = x[~x.isneginf()]
    torch.testing.assert_close(ops.bias_act(x, act=act), plain(x.double(), act=act).float(), equal_nan=True)


def leaves(act):
    return [t.requires_grad_() for t in case(act).tensors().values()]


@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_an_in_place_operation_on_y_is_right_or_raises_as_after_torch_s_own_function(act, clamp):
    def theirs(x, bias):
        y = ACTIVATIONS[act].reference(x + bias[:, None, None], 0.2)
        return y if clamp is None else y.clamp(-clamp, clamp)

    results = []
    for function in (theirs, lambda x, bias: ops.bias_act(x, bias, act=act, clamp=clamp)):
        x, bias = leaves(act)
        y = function(x, bias)
        try:
            results.append(torch.autograd.grad(y.add_(1.0).square().sum(), (x, bias)))
        except RuntimeError:
            results.append(None)
    theirs, ours = results
    assert (ours is None) == (theirs is None)
    if ours is not None:
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("act", ["relu", "leaky_relu"])
def test_the_second_derivative_of_a_piecewise_linear_function_gives_the_bias_zeros(act):
    """An optimiser treats zeros and None differently, and torch's functions return zeros."""
    x, bias = leaves(act)
    (g,) = torch.autograd.grad(ops.bias_act(x, bias, act=act), x, torch.ones_like(x), create_graph=True)
    of_x, of_bias = torch.autograd.grad(g.sum(), (x, bias), allow_unused=True)
    assert of_x is None and torch.equal(of_bias, torch.zeros_like(bias))


class Shifted(torch.nn.Module):
    """A convolution with a bias of its own shape, and a way around it."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
        self.bias = torch.nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x):
        return x + torch.nn.functional.avg_pool2d(self.conv(x) + self.bias, 1)


@pytest.mark.parametrize("act", ["linear", "relu", "leaky_relu"])
def test_a_penalty_alone_gives_none_and_zeros_to_the_parameters_that_torch_gives_them_to(act):
    """DistributedDataParallel and Adam tell zeros from None."""
    plain_act = {"linear": torch.nn.Identity, "relu": torch.nn.ReLU, "leaky_relu": lambda: torch.nn.LeakyReLU(0.2)}[act]
    critics, (x,) = [], torch.randn(1, 2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    for function in (plain_act, lambda: BiasAct(act=act)):
        torch.manual_seed(0)
        convolution = torch.nn.Conv2d(3, 3, 3)
        convolution.bias.requires_grad_(False)
        tail = [torch.nn.Flatten(), torch.nn.Linear(48, 8), function(), torch.nn.Linear(8, 1)]
        critic = torch.nn.Sequential(Shifted(), function(), convolution, function(), *tail).double()
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        gradient.square().sum().backward()
        critics.append(critic)
    zeros = 0
    for (name, theirs), ours in zip(critics[0].named_parameters(), critics[1].parameters(), strict=True):
        assert (theirs.grad is None) == (ours.grad is None), name
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)
            zeros += not ours.grad.any()
    assert act == "linear" or zeros == 3


def test_the_zeros_cost_no_pass_of_the_layers_before():
    """No matrix product beyond those of the weights' gradients: three for two layers."""
    layer, head = torch.nn.Linear(4, 8), torch.nn.Linear(8, 1)
    x = torch.randn(2, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(head(ops.bias_act(layer(x), act="relu")).sum(), x, create_graph=True)
    with torch.profiler.profile() as profiled:
        gradient.square().sum().backward(inputs=[*layer.parameters(), head.weight])
    assert sum(event.name == "aten::mm" for event in profiled.events()) == 3
    assert torch.equal(layer.bias.grad, torch.zeros(8))


def test_an_error_names_every_allowed_dtype_once():
    with pytest.raises(TypeError) as error:
        ops.bias_act(torch.randn(2, 3, dtype=torch.float64), torch.ones(3))
    assert str(error.value).count("float64") == 1
