"""fastgan.ops.bias_act: its table and special values; tests/contract has what it shares with all ops."""

import math

import pytest
import torch

from fastgan import ops
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


def test_an_error_names_every_allowed_dtype_once():
    with pytest.raises(TypeError) as error:
        ops.bias_act(torch.randn(2, 3, dtype=torch.float64), torch.ones(3))
    assert str(error.value).count("float64") == 1
