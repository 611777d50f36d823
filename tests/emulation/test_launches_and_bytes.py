"""Speed without a GPU: the number of launches, and the bytes moved against the fewest possible."""

import pytest
import torch
from plain_spectral_norm import Network, check

LAUNCHES = [
    ["spectral_norm_multiply_kernel", "spectral_norm_add_kernel", "spectral_norm_normalize_kernel"],
    ["spectral_norm_project_kernel", "spectral_norm_normalize_kernel"],
    ["spectral_norm_backward_sums_kernel", "spectral_norm_backward_weights_kernel"],
    ["spectral_norm_double_backward_sums_kernel", "spectral_norm_double_backward_outputs_kernel"],
]
CRITIC = [(64, 48), (128, 1024), (256, 2048), (1, 1536)]  # much like DCGAN's at half the width


def run(emulated, network, **options):
    """The launches of each op."""
    for op, arguments in network.calls(**options):
        getattr(emulated.ops, op)(*arguments)
        yield emulated.launches()


@pytest.mark.parametrize("layers", [1, 50, 1000])
def test_launches_do_not_depend_on_the_number_of_layers(emulated, layers):
    network = Network([(1 + i % 5, 1 + i % 7) for i in range(layers)])
    for (op, arguments), kernels in zip(network.calls(), LAUNCHES, strict=True):
        check(emulated, op, arguments)
        assert [launch.kernel for launch in emulated.launches()] == kernels


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_a_power_iteration_takes_at_most_three_launches(emulated, iterations):
    forward = next(run(emulated, Network([(8, 12), (5, 7)]), n_power_iterations=iterations))
    assert len(forward) == 2 * iterations + 1 <= 3 * iterations


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_every_matrix_is_read_once_for_each_sum_and_once_for_each_result(emulated, dtype):
    network = Network(CRITIC, dtype)
    size = sum(w.numel() * w.element_size() for w in network.weights)
    forward, evaluation, backward, double_backward = run(emulated, network)

    def matrices(launch):
        names = ("weight", "grad", "h", "normalized", "grad_weight", "d_grad", "d_weight")
        read = {name: count / size for name, count in launch.read.items() if name in names}
        return read, {name: count / size for name, count in launch.written.items() if name in names}

    multiply, add, normalize = forward
    assert matrices(multiply) == ({"weight": 1}, {})
    assert matrices(add) == ({}, {})
    assert matrices(normalize) == ({"weight": 1}, {"normalized": 1})
    assert [matrices(launch) for launch in evaluation] == [({"weight": 1}, {}), ({"weight": 1}, {"normalized": 1})]
    assert [matrices(launch) for launch in backward] == [
        ({"grad": 1, "weight": 1}, {}),
        ({"grad": 1}, {"grad_weight": 1}),
    ]
    assert [matrices(launch) for launch in double_backward] == [
        ({"h": 1, "grad": 1, "weight": 1}, {}),
        ({"h": 1, "grad": 1, "weight": 1}, {"d_grad": 1, "d_weight": 1}),
    ]


def test_all_that_a_forward_moves_is_near_two_readings_and_one_writing_of_the_weights(emulated):
    network = Network(CRITIC)
    lower_bound = 3 * sum(w.numel() * w.element_size() for w in network.weights)
    moved = sum(sum((*launch.read.values(), *launch.written.values())) for launch in next(run(emulated, network)))
    assert lower_bound < moved < 1.25 * lower_bound


def test_a_row_that_does_not_fit_is_read_again_and_nothing_else(emulated):
    network = Network([(4, 3000)])
    emulated.configure(shared_memory=16 * 1024)
    multiply = next(run(emulated, network))[0]
    assert multiply.read["weight"] == 2 * 4 * 3000 * 4
