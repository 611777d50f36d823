"""The suite sees what it is for: it passes an honest op, and fails for each op with a planted mistake."""

import pytest
import torch

from tests.contract.check import check
from tests.contract.op import Case
from tests.contract.test_derivatives import check_third_order
from tests.contract.test_modes import check_forward_mode

# The planted op is y = x^3 w, with dx = 3 x^2 w g, dw = x^3 g.


def cube(x, w):
    return {"y": x**3 * w}


def planted(ours):
    def tensors():
        generator = torch.Generator().manual_seed(0)
        return {name: torch.randn(4, 3, generator=generator, dtype=torch.float64) for name in ("x", "w")}

    return Case("planted", lambda x, w: {"y": ours(x, w)}, cube, tensors)


def function(backward=None, jvp=None, forward=lambda x, w: x**3 * w):
    """y as an autograd Function with the given derivatives."""

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(x, w):
            return forward(x, w)

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

    Cube.backward = staticmethod(backward)
    Cube.jvp = staticmethod(jvp or honest_jvp)
    return Cube.apply


def honest_jvp(ctx, tx, tw):
    x, w = ctx.saved_tensors
    return 3 * x**2 * w * tx + x**3 * tw


def first(g, x, w):
    return 3 * x**2 * w * g, x**3 * g


def honest_backward(ctx, g):
    return first(g, *ctx.saved_tensors)


class FirstWithout(torch.autograd.Function):
    """The first derivative, with a second one that lacks the term of x in x."""

    @staticmethod
    def forward(ctx, g, x, w):
        ctx.save_for_backward(g, x, w)
        return first(g, x, w)

    @staticmethod
    def backward(ctx, hx, hw):
        g, x, w = ctx.saved_tensors
        return 3 * x**2 * w * hx + x**3 * hw, 3 * x**2 * g * hw, 3 * x**2 * g * hx


def constant_backward(ctx, g):
    """As a kernel that writes into a fresh tensor: what comes out has no graph."""
    with torch.no_grad():
        return first(g, *ctx.saved_tensors)


def constant_of_one(ctx, g):
    x, w = ctx.saved_tensors
    return 3 * x**2 * w * g, (x**3 * g).detach()


def without_a_term(ctx, g):
    return FirstWithout.apply(g, *ctx.saved_tensors)


def unwritten(x, w):
    y = torch.empty_like(x)
    y[:3] = (x**3 * w)[:3]
    return y


def coarse(x, w):
    y = x**3 * w
    return y if y.dtype == torch.float64 else (y.double() * (1 + 4 * torch.finfo(y.dtype).eps)).to(y.dtype)


HONEST = planted(function(honest_backward))


def test_an_honest_op_passes():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        check(HONEST, dtype)
        check(HONEST, dtype, requires=["x"])
    check_forward_mode(HONEST)


@pytest.mark.parametrize(
    ("backward", "message"),
    [
        (constant_backward, "second grad of x"),
        (constant_of_one, "second grad of x"),
        (without_a_term, "second grad of x"),
        (lambda ctx, g: (None, first(g, *ctx.saved_tensors)[1]), "grad of x"),
    ],
    ids=["a constant", "a constant gradient of w", "a dropped term", "a missing gradient"],
)
def test_a_wrong_derivative_is_found(backward, message):
    case = planted(function(backward))
    with pytest.raises(AssertionError, match=message):
        check(case)
    if message == "second grad of x" and backward is not constant_of_one:
        with pytest.raises(AssertionError, match=message):
            check(case, requires=["x"])


def test_a_gradient_that_is_missing_in_one_combination_is_found():
    """Right if both inputs require a gradient, a constant if x alone does."""

    def backward(ctx, g):
        results = first(g, *ctx.saved_tensors)
        return results if all(ctx.needs_input_grad) else tuple(t.detach() for t in results)

    case = planted(function(backward))
    check(case)
    with pytest.raises(AssertionError, match="second grad of x"):
        check(case, requires=["x"])


def test_zeros_in_forward_mode_are_found():
    case = planted(function(honest_backward, jvp=lambda ctx, tx, tw: torch.zeros_like(tx)))
    check(case)
    with pytest.raises(AssertionError, match="y: relative error"):
        check_forward_mode(case)


def test_a_third_order_that_is_a_constant_is_found():
    class Second(torch.autograd.Function):
        @staticmethod
        def forward(ctx, g, x, w):
            ctx.save_for_backward(g, x, w)
            return first(g, x, w)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, hx, hw):
            g, x, w = ctx.saved_tensors
            return 3 * x**2 * w * hx + x**3 * hw, 6 * x * w * g * hx + 3 * x**2 * g * hw, 3 * x**2 * g * hx

    case = planted(function(lambda ctx, g: Second.apply(g, *ctx.saved_tensors)))
    check(case)
    with pytest.raises(AssertionError, match="without a graph"):
        check_third_order(case)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        check_third_order(HONEST)  # has a third order, which an op of fastgan's does not


def test_memory_that_nobody_wrote_is_found():
    case = planted(function(honest_backward, forward=unwritten))
    with pytest.raises(AssertionError, match="y: relative error nan"):
        check(case)


def test_half_precision_worse_than_plain_torchs_is_found():
    case = planted(function(honest_backward, forward=coarse))
    check(case)
    with pytest.raises(AssertionError, match="y: relative error"):
        check(case, torch.bfloat16)
