"""fastgan.ops.spectral_norm: known answers and memory; tests/contract has what it shares with all ops."""

import pytest
import torch

from fastgan.ops import spectral_norm, spectral_norm_reference


def network(shapes, dtype=torch.float64, seed=0, requires_grad=True):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    weights = [randn(*shape).requires_grad_(requires_grad) for shape in shapes]
    us = [torch.nn.functional.normalize(randn(r), dim=0) for r, _ in shapes]
    vs = [torch.nn.functional.normalize(randn(c), dim=0) for _, c in shapes]
    return weights, us, vs


def test_sigma_converges_to_the_largest_singular_value():
    weights, us, vs = network([(48, 80), (80, 48), (5, 200)])
    _, sigmas, _, _ = spectral_norm(weights, us, vs, n_power_iterations=2000)
    for w, sigma in zip(weights, sigmas, strict=True):
        torch.testing.assert_close(sigma, torch.linalg.matrix_norm(w, 2), rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_degenerate_weights_follow_torchs_arithmetic(value):
    weights, us, vs = network([(4, 6)], requires_grad=False)
    weights[0].fill_(value)
    ours, theirs = spectral_norm(weights, us, vs)[0][0], spectral_norm_reference(weights, us, vs)[0][0]
    assert torch.isnan(ours).all()
    assert torch.isnan(theirs).all()


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


def test_an_empty_list_gives_empty_lists():
    assert list(map(list, spectral_norm([], [], []))) == [[], [], [], []]


def test_a_sparse_gradient_is_as_good_as_a_dense_one():
    """That of torch.nn.functional.embedding(..., sparse=True)."""
    weights, us, vs = network([(6, 4)])
    index, results = torch.tensor([1, 3, 3]), []
    for sparse in (False, True):
        rows = torch.nn.functional.embedding(index, spectral_norm(weights, us, vs)[0][0], sparse=sparse)
        results.append(torch.autograd.grad(rows.pow(2).sum(), weights[0])[0])
    torch.testing.assert_close(results[1], results[0])
