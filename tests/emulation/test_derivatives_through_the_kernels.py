"""fastgan's own autograd formulas, with the CUDA kernels doing the arithmetic: right to second order."""

import pytest
import torch
from plain_spectral_norm import Network

import fastgan

FIRST = ["spectral_norm_backward_sums_kernel", "spectral_norm_backward_weights_kernel"]
SECOND = ["spectral_norm_double_backward_sums_kernel", "spectral_norm_double_backward_outputs_kernel"]


@pytest.fixture
def on_kernels(emulated):
    """torch.ops.fastgan.* run the emulated kernels."""
    with emulated.serving_cpu_tensors():
        yield emulated


@pytest.fixture
def normalized():
    """weights -> (normalized weights, sigmas) for a small network in fp64, and its weights."""
    network = Network([(4, 5), (1, 3), (3, 1), (6, 33)], torch.float64)

    def normalized(*weights):
        out, sigmas, _, _ = fastgan.ops.spectral_norm(list(weights), *network.trained, update=False)
        return *out, *sigmas

    return normalized, tuple(w.requires_grad_() for w in network.weights)


def test_first_derivative_is_right(on_kernels, normalized):
    assert torch.autograd.gradcheck(*normalized, fast_mode=True)
    assert set(FIRST) <= {launch.kernel for launch in on_kernels.launches()}


def test_second_derivative_is_right(on_kernels, normalized):
    assert torch.autograd.gradgradcheck(*normalized, fast_mode=True)
    assert set(FIRST + SECOND) <= {launch.kernel for launch in on_kernels.launches()}


def test_cpu_and_gpu_kernels_agree(emulated):
    network = Network([(20, 48), (7, 130), (1, 1)])
    calls = list(network.calls(n_power_iterations=2))
    cpu = [getattr(torch.ops.fastgan, op)(*arguments) for op, arguments in calls]
    with emulated.serving_cpu_tensors():
        gpu = [getattr(torch.ops.fastgan, op)(*arguments) for op, arguments in calls]
    assert emulated.launches()
    for a, b in zip(cpu, gpu, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


def test_the_cpu_has_its_own_kernels_back_afterwards(emulated):
    network = Network([(3, 4)])
    with emulated.serving_cpu_tensors():
        torch.ops.fastgan.spectral_norm(*network.forward())
    assert emulated.launches()
    torch.ops.fastgan.spectral_norm(*network.forward())
    assert not emulated.launches()
