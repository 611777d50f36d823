"""An eager call enters the autograd Function directly; whoever watches a call still sees the registered op."""

import os
import subprocess
import sys

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from fastgan import ops

FUNCTIONS = {
    "bias_act": lambda x, weight, bias: ops.bias_act(x, bias, act="silu"),
    "normalize": lambda x, weight, bias: ops.group_norm(x, 2, weight, bias),
    "attention": lambda x, weight, bias: ops.attention(*attended(x, weight, bias), key_bias=bias)[0],
}


def attended(x, weight, bias):
    """Queries that depend on x; keys and values that depend on parameters."""
    return x[None], weight[:, None].expand(1, 3, 4, 5), (weight * bias)[:, None].expand(1, 3, 4, 5)


def tensors(seed=0):
    torch.manual_seed(seed)
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    return x, *(torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2))


@pytest.fixture
def masks(monkeypatch):
    """The output masks of every first-order call, in order."""
    seen = []
    for name in FUNCTIONS:
        module = sys.modules[f"fastgan.ops.{name}"]

        def spy(*args, order=module._first_order):
            seen.append(list(args[-1]))
            return order(*args)

        monkeypatch.setattr(module, "_first_order", spy)
    return seen


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_penalty_s_inner_gradient_computes_no_gradient_of_a_parameter(name, masks):
    x, weight, bias = tensors()
    loss = FUNCTIONS[name](2 * x, weight, bias).square().sum()
    (g,) = torch.autograd.grad(loss, x, create_graph=True)
    assert masks and not any(any(mask[1:]) for mask in masks)
    g.square().sum().backward()
    assert x.grad is not None


def derivatives(function, how):
    """Every gradient that a user may want of function, as one list."""
    x, weight, bias = tensors()
    loss = function(2 * x, weight, bias).pow(3).sum()
    if how == "backward":
        loss.backward()
        return [x.grad, weight.grad, bias.grad]
    if how == "backward of one leaf":
        loss.backward(inputs=[bias])
        assert x.grad is None and weight.grad is None
        return [bias.grad]
    if how == "grad of leaves":
        return list(torch.autograd.grad(loss, (x, weight, bias), allow_unused=True))
    if how == "grad of one leaf":
        return list(torch.autograd.grad(loss, bias))
    if how == "accumulated":
        loss.backward(retain_graph=True)
        loss.backward()
        return [x.grad, weight.grad, bias.grad]
    (g,) = torch.autograd.grad(loss, x, create_graph=True)
    penalty = (g.flatten(1).norm(dim=1) - 1).square().sum()
    if how == "penalty, backward":
        (penalty + loss).backward()
        return [x.grad, weight.grad, bias.grad]
    return list(torch.autograd.grad(penalty, (x, weight, bias), allow_unused=True))


HOW = ["backward", "backward of one leaf", "grad of leaves", "grad of one leaf", "accumulated", "penalty, backward"]


@pytest.mark.parametrize("how", [*HOW, "penalty, grad of leaves"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_whatever_the_engine_wants_is_right(name, how):
    plain = {
        "bias_act": lambda x, weight, bias: torch.nn.functional.silu(x + bias[:, None]),
        "normalize": lambda x, weight, bias: torch.nn.functional.group_norm(x, 2, weight, bias),
        "attention": lambda x, weight, bias: ops.attention_reference(*attended(x, weight, bias), key_bias=bias)[0],
    }[name]
    for got, want in zip(derivatives(FUNCTIONS[name], how), derivatives(plain, how), strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


class Seen(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "fastgan":
            self.names.add(function._schema.name.split("::")[1])
        return function(*args, **(kwargs or {}))


def second_order(x):
    q = x[None]
    weight = x[0].flatten(1)
    vectors = [torch.ones(4, dtype=x.dtype)], [torch.ones(5, dtype=x.dtype)]
    results = {
        "bias_act": ops.bias_act(x, act="silu"),
        "normalize": ops.group_norm(x, 2),
        "attention": ops.attention(q, q, q),
        "grad_norm_penalty": ops.grad_norm_penalty(x),
        "spectral_norm": ops.spectral_norm([weight], *vectors)[0][0],
    }
    for result in results.values():
        (g,) = torch.autograd.grad(result.pow(3).sum(), x, create_graph=True)
        torch.autograd.grad(g.pow(2).sum(), x)
    return {name + suffix for name in results for suffix in ("", "_backward", "_double_backward")}


def test_a_dispatch_mode_sees_every_order_of_every_op():
    with Seen() as seen:
        expected = second_order(tensors()[0])
    assert seen.names == expected


def test_a_mode_that_opens_after_the_forward_sees_the_backward():
    x = tensors()[0]
    y = ops.bias_act(x, act="silu")
    with Seen() as seen:
        torch.autograd.grad(y.sum(), x, create_graph=True)
    assert seen.names == {"bias_act_backward"}


def test_a_tensor_subclass_takes_the_registered_op():
    class Sub(torch.Tensor):
        pass

    x = tensors()[0]
    y = ops.bias_act(x.detach().as_subclass(Sub), act="silu")
    assert type(y) is Sub
    torch.testing.assert_close(y.as_subclass(torch.Tensor), ops.bias_act(x.detach(), act="silu"))


def test_batched_gradients_equal_a_loop():
    x, weight, bias = tensors()
    y = ops.group_norm(x, 2, weight, bias)
    cotangents = torch.randn(3, *y.shape, dtype=y.dtype)
    batched = torch.autograd.grad(y, (x, bias), cotangents, is_grads_batched=True, retain_graph=True)
    loop = [torch.autograd.grad(y, (x, bias), c, retain_graph=True) for c in cotangents]
    for got, want in zip(batched, zip(*loop, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(want))


WITHOUT_PRIVATE_NAMES = """
import importlib.util, pathlib, sys, torch
# What torch's own library needs is taken from fastgan's file alone.
without_kernel = "cpu_kernel", lambda op: None
instead = {{"_AutoDispatchBelowAutograd": ("below_autograd", None), "redispatch_boxed": without_kernel}}
for name in {names!r}:
    if name in instead:
        file = pathlib.Path(importlib.util.find_spec("fastgan").origin).parent / "ops" / "_torch_private.py"
        spec = importlib.util.spec_from_file_location("fastgan.ops._torch_private", file)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        setattr(module, *instead[name])
    else:
        *owner, name = name.split(".")
        delattr(getattr(torch._C, owner[0]) if owner else torch._C, name)
import fastgan
from fastgan import ops
x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
u, v = [torch.ones(4, dtype=torch.float64)], [torch.ones(3, dtype=torch.float64)]
for f in (
    lambda x: ops.bias_act(x, x[0, :, 0], act="silu"),
    lambda x: ops.group_norm(x, 2, x[0, :, 0], x[1, :, 0]),
    lambda x: ops.attention(x[None], x[None], x[None]),
    lambda x: ops.grad_norm_penalty(x),
    lambda x: ops.spectral_norm([x[0]], u, v, update=False)[0][0],
):
    assert torch.autograd.gradcheck(f, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(f, x, fast_mode=True)
    (g,) = torch.autograd.grad(f(x).pow(3).sum(), x, create_graph=True)
    (g,) = torch.autograd.grad(g.pow(3).sum(), x, create_graph=True)
    try:
        torch.autograd.grad(g.sum(), x)
    except NotImplementedError:
        continue
    raise AssertionError("a third order must raise")
"""


@pytest.mark.parametrize(
    "names",
    [
        ["_AutoDispatchBelowAutograd"],
        ["redispatch_boxed"],
        ["_len_torch_dispatch_stack"],
        ["_functorch.is_legacy_batchedtensor"],
        ["_will_engine_execute_node", "_current_graph_task_id"],
        ["_any_requires_grad"],
    ],
)
def test_derivatives_are_right_under_a_torch_without_a_private_name(names):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    code = WITHOUT_PRIVATE_NAMES.format(names=names)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_view_with_the_other_sign_is_read_with_it(name):
    _, weight, bias = (t.detach() for t in tensors())
    x = torch.randn(3, 4, 5, dtype=torch.complex128).conj().imag
    assert x.is_neg()
    torch.testing.assert_close(FUNCTIONS[name](x, weight, bias), FUNCTIONS[name](x.clone(), weight, bias))
    leaf = x.clone().requires_grad_()
    got, want = (torch.autograd.grad(FUNCTIONS[name](leaf, weight, bias), leaf, c) for c in (x, x.clone()))
    torch.testing.assert_close(got, want)


PUBLIC = {
    "bias_act": lambda x, c: ops.bias_act(x, c, act="silu"),
    "normalize": lambda x, c: ops.group_norm(x, 2, c, c),
    "attention": lambda x, c: ops.attention(x, x, x),
    "grad_norm_penalty": lambda x, c: ops.grad_norm_penalty(x),
    "spectral_norm": lambda x, c: ops.spectral_norm([x[0, 0]], [c], [c])[0][0],
}


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="a torch without CUDA")
@pytest.mark.parametrize("name", PUBLIC)
def test_a_compiler_traces_every_public_function_on_cuda_tensors_as_one_graph(name, monkeypatch):
    """Fake ones: no GPU is needed. A backward's trace would need a CUDA context."""
    monkeypatch.setattr("fastgan.ops._autograd.CUDA_PROBLEM", None)
    graphs = []

    def backend(graph, inputs):
        graphs.append([str(n.target) for n in graph.graph.nodes if n.op == "call_function"])
        return graph.forward

    torch._dynamo.reset()
    with FakeTensorMode():
        x, c = torch.empty(2, 4, 4, 4, device="cuda", requires_grad=True), torch.empty(4, device="cuda")
        y = torch.compile(PUBLIC[name], fullgraph=True, backend=backend)(x, c)
    assert y.device.type == "cuda" and y.requires_grad
    assert len(graphs) == 1 and f"fastgan.{name}.default" in graphs[0]
