"""fastgan.ops.bias_act: its table and special values; tests/contract has what it shares with all ops."""

import math

import pytest
import torch

from fastgan import ops
from fastgan.ops.bias_act import ACTIVATIONS
from tests.contract.bias_act import PLAIN, case, plain


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_table_is_true(act):
    """What is saved is what the table says, and a second derivative is there exactly where it says so."""
    x = case(act).tensors()["x"].requires_grad_()
    y = ops.bias_act(x, act=act)
    saved = y.grad_fn.saved_tensors[0]
    assert saved.data_ptr() == (y if ACTIVATIONS[act].saves == "y" else x).data_ptr()
    curvature = torch.func.grad(torch.func.grad(lambda z: PLAIN[act](z, 0.2)))(torch.tensor(0.7))
    negative = torch.func.grad(torch.func.grad(lambda z: PLAIN[act](z, 0.2)))(torch.tensor(-0.7))
    assert ACTIVATIONS[act].second_derivative == bool(curvature != 0 or negative != 0)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_special_values_are_those_of_the_mathematics(act):
    """As torch has them in fp64; its vectorised fp32 gelu makes a NaN of +inf on some processors."""
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0] * 3)
    if act in ("silu", "gelu"):  # -inf * 0: NaN in torch; ours may be NaN as well, nothing else
        x = x[~x.isneginf()]
    torch.testing.assert_close(ops.bias_act(x, act=act), plain(x.double(), act=act).float(), equal_nan=True)
