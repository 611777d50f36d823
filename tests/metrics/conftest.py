import pytest
import torch

from fastgan import metrics


@pytest.fixture(scope="session")
def extractor(tmp_path_factory):
    """fashion-cnn, trained once for all tests."""
    return metrics.fashion_cnn(tmp_path_factory.mktemp("extractor") / "fashion.safetensors")


def normal(n, d, seed, shift=0.0, scale=1.0, dtype=torch.float64):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=source, dtype=torch.float64).mul_(scale).add_(shift).to(dtype)


KINDS = ("generic", "collapsed", "copied", "rank-deficient")


def pair(kind, n=400, d=16):
    """real, fake (N, D) float64"""
    real, fake = normal(n, d, 1), normal(n, d, 2, shift=0.3, scale=0.8)
    if kind == "collapsed":  # a few samples, each many times
        fake = fake[torch.arange(n) % 8].clone()
    if kind == "copied":  # half of the fake samples are real ones
        fake[::2] = real[::2]
    if kind == "rank-deficient":
        fake = fake[:, :3] @ normal(3, d, 3)
    return real, fake


@pytest.fixture(params=KINDS)
def sets(request):
    return request.param, *pair(request.param)
