"""fastgan.ops.spectral_norm: right to second order against plain torch, an exception beyond it and for bad input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.library import opcheck

from fastgan.ops import spectral_norm, spectral_norm_reference

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
RAGGED = [(4, 6), (3, 5), (1, 1), (7, 1), (1, 9)]


def network(shapes, dtype=torch.float64, seed=0, requires_grad=True):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    weights = [randn(*shape).requires_grad_(requires_grad) for shape in shapes]
    us = [torch.nn.functional.normalize(randn(r), dim=0) for r, _ in shapes]
    vs = [torch.nn.functional.normalize(randn(c), dim=0) for _, c in shapes]
    return weights, us, vs


def doubled(tensors):
    return [t.detach().double() for t in tensors]


def relative_error(ours, expected):
    error = max((a.double() - b).norm() / b.norm().clamp_min(1e-300) for a, b in zip(ours, expected, strict=True))
    return error.item()


@pytest.mark.parametrize("update", [True, False])
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_is_torchs_power_iteration(dtype, iterations, update):
    shapes = [(64, 27), (33, 1000), (300, 500), *RAGGED]  # (300, 500) is cut into several blocks of rows
    weights, us, vs = network(shapes, dtype)
    ours = spectral_norm(weights, us, vs, n_power_iterations=iterations, update=update)
    exact = spectral_norm_reference(
        doubled(weights), doubled(us), doubled(vs), n_power_iterations=iterations, update=update
    )
    # Half precision stores u and v rounded; with update=False sigma = u.Wv of random vectors cancels, hence the norm.
    bound = {torch.float64: 1e-13, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    for name, a, b in zip(("normalized", "sigma", "u", "v"), ours, exact, strict=True):
        assert all(t.dtype == dtype for t in a)
        assert relative_error(a, b) < bound, name


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 70), st.integers(1, 90)), min_size=0, max_size=6),
    update=st.booleans(),
    eps=st.sampled_from([1e-12, 1e-3, 10.0]),
    seed=st.integers(0, 1000),
)
def test_any_list_of_shapes(shapes, update, eps, seed):
    weights, us, vs = network(shapes, seed=seed)
    ours = spectral_norm(weights, us, vs, eps=eps, update=update)
    expected = spectral_norm_reference(weights, us, vs, eps=eps, update=update)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_sigma_converges_to_the_largest_singular_value():
    weights, us, vs = network([(48, 80), (80, 48), (5, 200)])
    _, sigmas, _, _ = spectral_norm(weights, us, vs, n_power_iterations=2000)
    for w, sigma in zip(weights, sigmas, strict=True):
        torch.testing.assert_close(sigma, torch.linalg.matrix_norm(w, 2), rtol=1e-6, atol=0)


def test_result_does_not_depend_on_the_number_of_threads():
    weights, us, vs = network([(300, 700), (64, 27), (1, 5000), (5000, 3)], torch.float32)
    grads = [torch.ones_like(w) for w in weights]

    def run():
        normalized, sigmas, new_us, new_vs = spectral_norm(weights, us, vs)
        return [*normalized, *sigmas, *new_us, *new_vs, *torch.autograd.grad(normalized, weights, grads)]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run()
        torch.set_num_threads(3)
        three = run()
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def outputs(weights, us, vs, **kwargs):
    normalized, sigmas, _, _ = spectral_norm(list(weights), us, vs, **kwargs)
    return (*normalized, *sigmas)


def test_first_and_second_derivative_of_the_compiled_op():
    weights, us, vs = network(RAGGED)
    # update=True would move u and v with W, which finite differences see; in the paper they are constants.
    assert gradcheck(lambda *w: outputs(w, us, vs, update=False), weights)
    assert gradgradcheck(lambda *w: outputs(w, us, vs, update=False), weights)


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_match_the_reference(dtype):
    """Both orders through W and sigma, and in half precision within thrice plain torch's own error."""
    shapes = [(20, 30), (8, 3), (1, 40)]
    weights, us, vs = network(shapes, dtype)

    def both_orders(function, weights, us, vs):
        normalized, sigmas, _, _ = function(weights, us, vs)
        first = torch.autograd.grad(
            sum((n.tanh()).sum() for n in normalized) + sum(s.square() for s in sigmas), weights, create_graph=True
        )
        second = torch.autograd.grad(sum(g.square().sum() for g in first), weights)
        return first, second

    exact = both_orders(
        spectral_norm_reference, [w.requires_grad_() for w in doubled(weights)], doubled(us), doubled(vs)
    )
    ours = both_orders(spectral_norm, weights, us, vs)
    plain = both_orders(spectral_norm_reference, weights, us, vs)
    floor = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 1e-4)
    for a, b, c in zip(ours, exact, plain, strict=True):
        assert relative_error(a, b) <= max(3 * relative_error(c, b), floor)


def test_second_derivative_survives_create_graph():
    """A loss on the gradient has a gradient of its own: not None, not zero."""
    weights, us, vs = network([(6, 5)])
    normalized, _, _, _ = spectral_norm(weights, us, vs)
    (gradient,) = torch.autograd.grad(normalized[0].pow(3).sum(), weights, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), weights)
    assert second.abs().max() > 1e-3


def test_third_derivative_raises():
    weights, us, vs = network([(6, 5)])
    normalized, _, _, _ = spectral_norm(weights, us, vs)
    (first,) = torch.autograd.grad(normalized[0].pow(3).sum(), weights, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(3).sum(), weights, create_graph=True)
    with pytest.raises(NotImplementedError, match="no further derivative"):
        torch.autograd.grad(second.sum(), weights)


def test_only_some_weights_require_grad():
    weights, us, vs = network([(4, 6), (3, 5)])
    weights[0].requires_grad_(False)
    normalized, _, _, _ = spectral_norm(weights, us, vs)
    reference, _, _, _ = spectral_norm_reference(weights, us, vs)
    ours = torch.autograd.grad(normalized[1].sin().sum(), weights[1])
    torch.testing.assert_close(ours, torch.autograd.grad(reference[1].sin().sum(), weights[1]))


def test_forward_mode_is_right_through_the_public_function():
    weights, us, vs = network([(4, 6)], requires_grad=False)
    tangent = torch.randn_like(weights[0])
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(weights[0], tangent)
        moved = forward_ad.unpack_dual(spectral_norm([dual], us, vs, update=False)[0][0]).tangent
    h = 1e-6
    ahead, behind = (spectral_norm([weights[0] + s * h * tangent], us, vs, update=False)[0][0] for s in (1, -1))
    torch.testing.assert_close(moved, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-7)


def test_forward_mode_of_the_raw_op_raises():
    weights, us, vs = network([(4, 6)], requires_grad=False)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(weights[0], torch.randn_like(weights[0]))
        with pytest.raises(NotImplementedError, match="forward-mode"):
            torch.ops.fastgan.spectral_norm([dual], us, vs, 1, 1e-12, True)


def test_torch_func_grad_is_right():
    (weight,), us, vs = network([(4, 6)])
    transformed = torch.func.grad(lambda w: spectral_norm([w], us, vs)[0][0].pow(3).sum())(weight.detach())
    (expected,) = torch.autograd.grad(spectral_norm([weight], us, vs)[0][0].pow(3).sum(), weight)
    torch.testing.assert_close(transformed, expected)


def test_ops_pass_opcheck():
    weights, us, vs = network(RAGGED)
    ops = torch.ops.fastgan
    opcheck(ops.spectral_norm.default, (weights, us, vs, 1, 1e-12, True))
    _, sigmas, new_us, new_vs = (doubled(t) for t in spectral_norm(weights, us, vs))
    grads = [torch.randn_like(w).requires_grad_() for w in weights]
    grad_sigmas = [torch.randn_like(s).requires_grad_() for s in sigmas]
    sigmas = [s.requires_grad_() for s in sigmas]
    opcheck(ops.spectral_norm_backward.default, (grads, grad_sigmas, weights, sigmas, new_us, new_vs, [True]))
    constants = [doubled(t) for t in (grads, grads, weights, sigmas, new_us, new_vs)]
    opcheck(ops.spectral_norm_double_backward.default, (*constants, [True] * 4))


def test_compiles_into_one_graph():
    weights, us, vs = network([(16, 24), (8, 8)], torch.float32)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(weights, us, vs):
        normalized, sigmas, _, _ = spectral_norm(weights, us, vs)
        return sum(n.tanh().sum() for n in normalized) + sum(sigmas)

    compiled = torch.autograd.grad(loss(weights, us, vs), weights)
    normalized, sigmas, _, _ = spectral_norm_reference(weights, us, vs)
    eager = torch.autograd.grad(sum(n.tanh().sum() for n in normalized) + sum(sigmas), weights)
    torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_degenerate_weights_follow_torchs_arithmetic(value):
    weights, us, vs = network([(4, 6)], requires_grad=False)
    weights[0].fill_(value)
    ours, theirs = spectral_norm(weights, us, vs)[0][0], spectral_norm_reference(weights, us, vs)[0][0]
    assert torch.isnan(ours).all()
    assert torch.isnan(theirs).all()


def test_convolution_weights_are_matrices():
    """(out, in, kh, kw) without a view: the same numbers, in the weight's shape, to second order."""
    (matrix,), us, vs = network([(4, 18)])
    weight = matrix.detach().view(4, 2, 3, 3).requires_grad_()

    def both_orders(w):
        normalized = spectral_norm([w], us, vs)[0][0]
        (first,) = torch.autograd.grad(normalized.pow(3).sum(), w, create_graph=True)
        return normalized, first, torch.autograd.grad(first.square().sum(), w)[0]

    for ours, expected in zip(both_orders(weight), both_orders(matrix), strict=True):
        assert torch.equal(ours, expected.view(4, 2, 3, 3))
    torch.testing.assert_close(both_orders(weight)[0], spectral_norm_reference([weight], us, vs)[0][0])


def test_large_outputs_share_memory_with_nothing_alive():
    """Large outputs come from recycled blocks: what is still referenced is never written again."""
    weights, us, vs = network([(1000, 900), (700, 1000), (3, 5)], torch.float32, requires_grad=False)
    kept = [spectral_norm(weights, us, vs)[0] for _ in range(3)]
    before = [[n.clone() for n in normalized] for normalized in kept]
    survivor = spectral_norm(weights, us, vs)[0][1]  # its block's other tensors are gone
    for _ in range(4):
        spectral_norm([w.neg() for w in weights], us, vs)
    for normalized, expected in zip([*kept, [survivor]], [*before, [before[0][1]]], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(normalized, expected, strict=True))
    storages = {n.untyped_storage().data_ptr() for normalized in kept for n in normalized}
    assert len(storages) == 9


def test_non_contiguous_tensors_are_read_right():
    big = torch.randn(12, 20, dtype=torch.float64)
    weights, us, vs = [big[::2, 3:17:2], big.t()[2:9, 1:5]], None, None
    us = [torch.randn(2 * w.shape[0], dtype=torch.float64)[::2] for w in weights]
    vs = [torch.randn(3 * w.shape[1], dtype=torch.float64)[::3] for w in weights]
    for a, b in zip(spectral_norm(weights, us, vs), spectral_norm_reference(weights, us, vs), strict=True):
        torch.testing.assert_close(a, b)


BAD_INPUT = {
    "0-d weight": (lambda w, u, v: ([w[0][0, 0]], u[:1], v[:1]), ValueError, r"weights\[0\].*matrix"),
    "empty weight": (lambda w, u, v: ([w[0][:0]], [u[0][:0]], v[:1]), ValueError, r"weights\[0\].*non-empty"),
    "vector weight": (lambda w, u, v: ([w[0].flatten()], u[:1], v[:1]), ValueError, r"weights\[0\].*matrix"),
    "short u": (lambda w, u, v: (w, [u[0][:-1], u[1]], v), ValueError, r"us\[0\] must have shape \(4,\)"),
    "long v": (lambda w, u, v: (w, u, [v[0], v[0]]), ValueError, r"vs\[1\] must have shape \(5,\)"),
    "missing v": (lambda w, u, v: (w, u, v[:1]), ValueError, "vs must have one vector per weight"),
    "integer weight": (lambda w, u, v: ([w[0].long()], u[:1], v[:1]), TypeError, r"weights\[0\].*int64"),
    "mixed dtypes": (lambda w, u, v: (w, [u[0].float(), u[1]], v), TypeError, r"us\[0\].*float64.*float32"),
    "mixed devices": (lambda w, u, v: (w, [u[0].to("meta"), u[1]], v), TypeError, r"us\[0\].*cpu.*meta"),
    "not a tensor": (lambda w, u, v: ([1.0, w[1]], u, v), TypeError, r"weights\[0\] must be a tensor"),
    "u requires grad": (
        lambda w, u, v: ([w[0].clone().requires_grad_()], [u[0].clone().requires_grad_()], v[:1]),
        ValueError,
        r"us\[0\].*must not require grad",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_named(case):
    change, error, message = BAD_INPUT[case]
    with pytest.raises(error, match=message):
        spectral_norm(*change(*network([(4, 6), (3, 5)], requires_grad=False)))


@pytest.mark.parametrize("case", [c for c in BAD_INPUT if c not in ("not a tensor", "mixed devices")])
def test_bad_input_to_the_raw_op_raises(case):
    """A direct call ends in an exception too, whatever it is, and never in a crash."""
    weights, us, vs = BAD_INPUT[case][0](*network([(4, 6), (3, 5)], requires_grad=False))
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ops.fastgan.spectral_norm(weights, us, vs, 1, 1e-12, True)


@pytest.mark.parametrize("arguments", [{"n_power_iterations": 0}, {"n_power_iterations": -1}, {"eps": -1.0}])
def test_bad_numbers_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        spectral_norm(*network([(4, 6)]), **arguments)


@pytest.mark.parametrize("position", range(6))
def test_bad_input_to_the_raw_derivatives_raises(position):
    weights, us, vs = network([(4, 6)], requires_grad=False)
    sigmas = [torch.ones((), dtype=torch.float64)]
    for op, good in (
        (torch.ops.fastgan.spectral_norm_backward, [weights, sigmas, weights, sigmas, us, vs, [True]]),
        (torch.ops.fastgan.spectral_norm_double_backward, [weights, weights, weights, sigmas, us, vs, [True] * 4]),
    ):
        for bad in ([torch.ones(2, 2, 2, dtype=torch.float64)], [torch.ones(4, 6)], []):
            arguments = [*good[:position], bad, *good[position + 1 :]]
            with pytest.raises(RuntimeError):
                op(*arguments)


def test_a_sparse_gradient_is_as_good_as_a_dense_one():
    """That of torch.nn.functional.embedding(..., sparse=True)."""
    weights, us, vs = network([(6, 4)])
    index, results = torch.tensor([1, 3, 3]), []
    for sparse in (False, True):
        rows = torch.nn.functional.embedding(index, spectral_norm(weights, us, vs)[0][0], sparse=sparse)
        results.append(torch.autograd.grad(rows.pow(2).sum(), weights[0])[0])
    torch.testing.assert_close(results[1], results[0])
