"""What only a GPU can show of the ops: streams, graphs, the compiler; tests/contract compares the numbers."""

import pytest
import torch

from fastgan import ops

CALLS = {
    "attention": lambda x: ops.attention(*(x[:, i : i + 1].flatten(2, 2) for i in range(3))),
    "group norm": lambda x: ops.group_norm(x, 3),
    "batch norm": lambda x: ops.batch_norm(x, None, None, training=True),
    "bias_act": lambda x: ops.bias_act(x, x[0, :, 0, 0], act="silu"),
    "spectral norm": lambda x: ops.spectral_norm([x], [x[:, 0, 0, 0].detach().contiguous()], [x[0].detach().flatten()])[
        0
    ][0],
    "penalty": lambda x: ops.grad_norm_penalty(x),
}


def sample():
    torch.manual_seed(0)
    return torch.randn(4, 6, 8, 8, device="cuda")


def penalty_of(call, x):
    x = x.detach().requires_grad_()
    (g,) = torch.autograd.grad(call(x).square().sum(), x, create_graph=True)
    value = (g.flatten(1).norm(dim=1) - 1).square().mean()
    return value, torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize("name", CALLS)
def test_a_third_order_raises(name):
    x = sample().requires_grad_()
    (first,) = torch.autograd.grad(CALLS[name](x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(second.square().sum(), x)


@pytest.mark.parametrize("name", CALLS)
def test_same_bits_every_time_and_on_another_stream(name):
    expected = penalty_of(CALLS[name], sample())
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = [penalty_of(CALLS[name], sample()) for _ in range(5)]
    stream.synchronize()
    for values in found:
        assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))


@pytest.mark.parametrize("name", CALLS)
def test_a_penalty_is_captured_in_a_graph(name):
    x = sample()
    warm = torch.cuda.Stream()
    warm.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm):
        for _ in range(2):
            penalty_of(CALLS[name], x)
    torch.cuda.current_stream().wait_stream(warm)
    torch.utils.deterministic.fill_uninitialized_memory = False
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = penalty_of(CALLS[name], x)
    x.copy_(torch.randn_like(x))
    graph.replay()
    for a, b in zip(captured, penalty_of(CALLS[name], x), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", CALLS)
def test_a_penalty_compiles_to_one_graph(name):
    x = sample()

    def loss(x):
        with torch.enable_grad():
            return CALLS[name](x).square().sum() + 0 * x.sum()

    compiled = torch.compile(loss, fullgraph=True)
    for function in (loss, compiled):
        x = sample().requires_grad_()
        value = function(x)
        gradient = torch.autograd.grad(value, x)[0]
        if function is loss:
            expected = value, gradient
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(gradient, expected[1], rtol=1e-4, atol=1e-5)


def test_bad_input_raises_and_leaves_the_gpu_usable():
    x = sample()
    with pytest.raises((ValueError, TypeError)):
        ops.bias_act(x, torch.randn(6))
    with pytest.raises((ValueError, TypeError)):
        ops.group_norm(x, 3, torch.randn(6))
    with pytest.raises((ValueError, TypeError)):
        ops.spectral_norm([x], [torch.randn(4)], [torch.randn(384, device="cuda")])
    with pytest.raises((ValueError, TypeError)):
        ops.attention(x, x.cpu(), x)
    torch.cuda.synchronize()
    assert ops.group_norm(x, 3).isfinite().all()
