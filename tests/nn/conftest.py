"""A small critic with every kind of weight, with fastgan's spectral norm or torch's from the same random numbers."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import fastgan


class Critic(nn.Module):
    def __init__(self, spectral_norm, dtype):
        super().__init__()
        self.conv = spectral_norm(nn.Conv2d(3, 8, 3, stride=2, padding=1, dtype=dtype))
        self.up = spectral_norm(nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, dtype=dtype))
        self.plain = nn.Conv2d(6, 5, 1, dtype=dtype)
        self.linear = spectral_norm(nn.Linear(5, 4, dtype=dtype), n_power_iterations=2)
        self.label = spectral_norm(nn.Embedding(10, 4, dtype=dtype))

    def forward(self, x, y):
        # Smooth, so that a gradient penalty has a second derivative everywhere.
        x = torch.tanh(self.plain(torch.tanh(self.up(torch.tanh(self.conv(x))))))
        return (self.linear(x.mean((2, 3))) * (1 + self.label(y))).sum(1)


@pytest.fixture
def critic():
    """critic(spectral_norm=fastgan's, dtype=float64) -> the same critic each time."""

    def build(spectral_norm=fastgan.nn.spectral_norm, dtype=torch.float64):
        torch.manual_seed(0)
        return Critic(spectral_norm, dtype)

    return build


@pytest.fixture
def pair(critic):
    """(torch's, fastgan's)"""
    return critic(parametrizations.spectral_norm), critic()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=generator),
        torch.randint(10, (4,), generator=generator),
    )


@pytest.fixture
def assert_same():
    """Same parameters' gradients and same buffers, to rounding."""

    def check(expected, actual, rtol=1e-10):
        assert list(expected.state_dict()) == list(actual.state_dict())
        for (name, theirs), ours in zip(expected.named_parameters(), actual.parameters(), strict=True):
            assert (theirs.grad is None) == (ours.grad is None), name
            if theirs.grad is not None:
                assert (theirs.grad - ours.grad).norm() <= rtol * theirs.grad.norm(), name
        for (name, theirs), ours in zip(expected.named_buffers(), actual.buffers(), strict=True):
            assert (theirs - ours).double().norm() <= rtol * theirs.double().norm(), name

    return check
