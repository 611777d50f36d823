"""torch.compile(fullgraph=True) of spectrally normalised models: the numbers of eager, and the buffers move on."""

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.nn import SNLinear


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


def step(model, batch):
    loss = (model(*batch) - 2 * model(*batch)).square().sum()  # two forwards before one backward
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("fuse", [False, True], ids=["unfused", "fused"])
def test_training_and_evaluation_without_a_graph_break(fuse, critic, batch, assert_same):
    eager = critic()
    compiled = fastgan.nn.fuse_spectral_norm(critic()) if fuse else critic()
    call = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for training in (True, False, True):
        eager.train(training)
        compiled.train(training)
        for _ in range(2):
            assert torch.allclose(step(eager, batch), step(call, batch), rtol=1e-10)
            assert_same(eager, compiled)
        with torch.no_grad():
            assert torch.allclose(eager(*batch), call(*batch), rtol=1e-10)
    compiled(*batch).sum().backward()  # eagerly again: nothing was left behind
    eager(*batch).sum().backward()
    assert_same(eager, compiled)


def test_inductor_compiles_a_fused_model_in_single_precision(assert_same):
    torch.manual_seed(0)
    eager = torch.nn.Sequential(SNLinear(6, 4), SNLinear(4, 1))  # few C++ kernels, which inductor compiles slowly
    compiled = fastgan.nn.fuse_spectral_norm(copy.deepcopy(eager))
    call = torch.compile(compiled, fullgraph=True)
    x = torch.randn(2, 6)
    for _ in range(3):
        for model in (eager, call):
            model(x).square().sum().backward()
    assert_same(eager, compiled, rtol=1e-4)


def test_a_gradient_penalty_compiles_as_one_function(critic, batch, assert_same):
    """Double backward inside a compiled function: the penalty's gradient is taken inside it, its backward outside."""
    eager, compiled = critic(), fastgan.nn.fuse_spectral_norm(critic())

    def penalty(model, x, y):
        (gradient,) = torch.autograd.grad(model(x, y).sum(), x, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()

    x = batch[0].clone().requires_grad_()
    penalty(eager, x, batch[1]).backward()
    with torch._dynamo.config.patch(trace_autograd_ops=True):
        torch.compile(penalty, fullgraph=True, backend="aot_eager")(compiled, x, batch[1]).backward()
    assert_same(eager, compiled)


@pytest.mark.parametrize("compile_first", [True, False], ids=["checkpoint of compiled", "compiled checkpoint"])
def test_checkpointing_and_compiling_one_function_raises(compile_first):
    """The recomputation would iterate, or read vectors of a later forward."""
    model = torch.nn.Sequential(SNLinear(4, 8), torch.nn.ReLU(), SNLinear(8, 1))
    part = torch.compile(model, backend="aot_eager") if compile_first else model
    call = lambda x: checkpoint(part, x, use_reentrant=False)  # noqa: E731
    call = call if compile_first else torch.compile(call, backend="aot_eager")
    x = torch.randn(3, 4).requires_grad_()
    with pytest.raises(RuntimeError, match=r"use torch\.compile or checkpointing, not both"):
        call(x).sum().backward()
    model.eval()
    torch.testing.assert_close(call(x), model(x))
    call(x).sum().backward()
