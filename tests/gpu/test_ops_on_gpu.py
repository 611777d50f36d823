"""Every op on a GPU: values, first and second derivatives against the plain-torch reference in fp64, in all dtypes."""

import math

import pytest
import torch
from torch.library import opcheck

from fastgan import ops
from fastgan.ops.bias_act import ACTIVATIONS
from fastgan.ops.normalize import BATCH, _normalize

TOLERANCE = {"float64": 1e-11, "float32": 2e-5, "bfloat16": 2e-2, "float16": 4e-3}


def normal(generator, *shape):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def derivatives(function, inputs, dtype, seed=1):
    """Outputs of function(*inputs), their gradients, and the gradients of these with respect to inputs and cotangents.

    All cotangents are random, and the same whatever the dtype.
    """
    generator = torch.Generator().manual_seed(seed)

    def like(t):
        return normal(generator, *t.shape).to(t.device).to(t.dtype).contiguous(memory_format=format_of(t))

    inputs = [t.cuda().to(dtype).requires_grad_() for t in inputs]
    outputs = [t for t in function(*inputs) if t.requires_grad]
    cotangents = [like(t).requires_grad_() for t in outputs]
    first = torch.autograd.grad(outputs, inputs, cotangents, create_graph=True, materialize_grads=True)
    moving = [t for t in first if t.requires_grad]
    second = torch.autograd.grad(moving, [*inputs, *cotangents], [like(t) for t in moving], materialize_grads=True)
    return [t.detach() for t in (*outputs, *first, *second)]


def format_of(t):
    inside = t.dim() == 4 and not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if inside else torch.contiguous_format


def errors(ours, reference, inputs, dtype):
    """Of ours in dtype against the reference in fp64 on the inputs rounded to dtype, relative, one for each result."""
    dtype = getattr(torch, dtype)
    rounded = [t.to(dtype).double() for t in inputs]
    got, want = derivatives(ours, inputs, dtype), derivatives(reference, rounded, torch.float64)
    largest = max([t.norm().item() for t in want], default=1.0)
    return [  # what should be zero, as all derivatives of attention to a single key, is measured by what is beside it
        (a.double() - b).norm().item() / max(b.norm().item(), 0.02 * largest, 1e-30)
        for a, b in zip(got, want, strict=True)
    ]


def agree(ours, reference, inputs, dtype, tolerance=None):
    for i, error in enumerate(errors(ours, reference, inputs, dtype)):
        assert error < (tolerance or TOLERANCE[dtype]), f"result {i}: relative error {error:.1e}"


# --- attention

ATTENTION = [  # B, H, N, M, D, Dv
    (2, 1, 1024, 256, 32, 128),
    (1, 2, 700, 900, 64, 64),
    (2, 3, 50, 70, 8, 8),
    (1, 1, 97, 400, 100, 17),
    (1, 1, 130, 70, 256, 200),
    (1, 1, 1, 1, 1, 1),
    (1, 1, 5, 0, 4, 4),
]
VARIANTS = {
    "dot": {},
    "causal": {"is_causal": True},
    "l2": {"similarity": "l2", "scale": 0.3},
    "key_bias": {},
    "all": {"similarity": "l2", "is_causal": True},
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", ATTENTION, ids=str)
def test_attention(case, variant, dtype):
    (B, H, N, M, D, Dv), setting = case, VARIANTS[variant]
    generator = torch.Generator().manual_seed(0)
    inputs = [normal(generator, *s) for s in ((B, H, N, D), (B, H, M, D), (B, H, M, Dv))]
    if variant in ("key_bias", "all"):
        inputs.append(normal(generator, B, H, M))

    def call(function):
        return lambda q, k, v, *bias: [function(q, k, v, key_bias=bias[0] if bias else None, **setting)]

    if dtype in ("float64", "float32"):
        return agree(call(ops.attention), call(ops.attention_reference), inputs, dtype)
    ours, theirs = (errors(call(f), call(ops.attention_reference), inputs, dtype) for f in (ops.attention, plain))
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a <= max(4 * b, TOLERANCE[dtype]), f"result {i}: relative error {a:.1e}, plain torch's {b:.1e}"


def plain(q, k, v, key_bias=None, scale=None, similarity="dot", is_causal=False):
    """As a user writes it, in the inputs' dtype: what half precision costs anyone."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if similarity == "l2":
        logits = -scale * (q.square().sum(-1)[..., None] + k.square().sum(-1)[..., None, :] - 2 * q @ k.mT)
    else:
        logits = scale * (q @ k.mT)
    logits = logits if key_bias is None else logits + key_bias[..., None, :]
    if is_causal:
        hidden = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        logits = logits.masked_fill(hidden, -math.inf)
    return logits.softmax(-1) @ v


# --- normalisation

# shape, groups, memory format, rows of weights
NORMS = {
    "group": ((8, 128, 16, 16), 32, "planes", "C"),
    "group inside": ((8, 128, 16, 16), 32, "inside", "C"),
    "group, conditional": ((4, 64, 9, 7), 8, "planes", "NC"),
    "group inside, conditional": ((4, 64, 9, 7), 8, "inside", "NC"),
    "group, bare": ((3, 12, 5, 5), 3, "planes", ""),
    "one group": ((8, 128, 16, 16), 1, "planes", "C"),
    "one group inside": ((8, 128, 16, 16), 1, "inside", "C"),
    "large groups": ((2, 64, 128, 128), 4, "planes", "C"),
    "large groups inside": ((2, 64, 128, 128), 4, "inside", "C"),
    "instance": ((8, 128, 16, 16), 128, "planes", "C"),
    "instance inside": ((8, 128, 16, 16), 128, "inside", "C"),
    "instance of large planes": ((2, 3, 256, 250), 3, "planes", "C"),
    "layer": ((300, 512), 1, "planes", "C"),
    "layer, ragged": ((37, 1001), 1, "planes", "C"),
    "batch": ((16, 64, 32, 32), BATCH, "planes", "C"),
    "batch inside": ((16, 64, 32, 32), BATCH, "inside", "C"),
    "batch, conditional": ((16, 32, 8, 8), BATCH, "planes", "NC"),
    "batch of a matrix": ((500, 33), BATCH, "planes", "C"),
    "empty": ((0, 4, 3, 3), 2, "planes", "C"),
}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", NORMS)
def test_normalize(name, dtype):
    shape, groups, memory, weights = NORMS[name]
    generator = torch.Generator().manual_seed(0)
    x = normal(generator, *shape) + 0.5
    if memory == "inside":
        x = x.contiguous(memory_format=torch.channels_last)
    affine = [normal(generator, *(shape[:2] if weights == "NC" else shape[1:2])) for _ in range(2 if weights else 0)]

    def call(norm):
        return lambda x, weight=None, bias=None: norm(x, groups, weight, bias, 2**-6)[:1]

    agree(call(_normalize), call(plain_normalize), [x, *affine], dtype)


def plain_normalize(x, num_groups, weight, bias, eps):
    if not x.numel():
        return [x * weight[:, None, None] + bias[:, None, None]]
    return ops.normalize_reference(x, num_groups, weight, bias, eps)


@pytest.mark.parametrize("groups", [1, 4, BATCH])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_mean_far_from_zero_does_not_cancel(groups, memory_format):
    x = (torch.randn(2, 4, 64, 65, device="cuda") + 1e4).contiguous(memory_format=memory_format)
    y, mean, var = _normalize(x, groups, None, None, 1e-5)
    exact = ops.normalize_reference(x.double(), groups, None, None, 1e-5)
    assert (y.double() - exact[0]).abs().max() < 1e-5
    assert (mean.double() - exact[1]).abs().max() < 1e-3
    assert (var.double() - exact[2]).abs().max() < 2e-6


# --- bias and activation


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("setting", [{"gain": 1.7}, {"gain": -0.6, "clamp": 1.0}], ids=str)
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("memory", ["planes", "inside"])
def test_bias_act(memory, act, setting, dtype):
    generator = torch.Generator().manual_seed(0)
    x = 2 * normal(generator, 8, 65, 17, 12)
    x = x.contiguous(memory_format=torch.channels_last) if memory == "inside" else x
    bias = normal(generator, x.shape[1])

    def call(function):
        return lambda x, bias: [function(x, bias, act=act, **setting)]

    # In half precision the derivatives of activations that keep y follow from the rounded y: at elu's kink on one side.
    looser = {"bfloat16": 0.15 if act == "elu" else 5e-2, "float16": 5e-2 if act == "elu" else 8e-3}.get(dtype)
    agree(call(ops.bias_act), call(ops.bias_act_reference), [x, bias], dtype, looser)


# --- spectral norm

LAYERS = {
    "dcgan-64": [(64, 48), (128, 1024), (256, 2048), (512, 4096), (1, 8192)],
    "ragged": [(3, 5), (1, 1), (7, 1), (1, 9), (33, 1000), (300, 501)],
    "large": [(2048, 18432), (16, 9)],
}


@pytest.mark.parametrize("update, iterations", [(True, 1), (True, 3), (False, 1)])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", LAYERS)
def test_spectral_norm(name, dtype, update, iterations):
    shapes, generator = LAYERS[name], torch.Generator().manual_seed(0)
    weights = [normal(generator, *s) for s in shapes]
    left, right = ([torch.nn.functional.normalize(normal(generator, s[i]), dim=0) for s in shapes] for i in (0, 1))
    # Not random vectors, whose u^T W v cancels: what a few iterations have made of them.
    _, _, left, right = ops.spectral_norm_reference(weights, left, right, n_power_iterations=5)
    left, right = ([t.to(getattr(torch, dtype)) for t in vectors] for vectors in (left, right))

    def call(function):
        def run(*weights):
            us, vs = ([t.to(weights[0]) for t in vectors] for vectors in (left, right))
            normalized, sigmas, *_ = function(weights, us, vs, n_power_iterations=iterations, update=update)
            return [*normalized, *sigmas]

        return run

    agree(
        call(ops.spectral_norm),
        call(ops.spectral_norm_reference),
        weights,
        dtype,
        tolerance=5e-2 if dtype == "bfloat16" else None,  # u and v are rounded
    )


def test_spectral_norms_vectors():
    weights = [torch.randn(s, device="cuda") for s in LAYERS["dcgan-64"]]
    us, vs = (
        [torch.nn.functional.normalize(torch.randn(w.shape[i], device="cuda"), dim=0) for w in weights] for i in (0, 1)
    )
    ours = ops.spectral_norm(weights, us, vs)
    exact = ops.spectral_norm_reference(*([t.double() for t in ts] for ts in (weights, us, vs)))
    for a, b in zip(ours, exact, strict=True):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x.double(), y, rtol=1e-4, atol=1e-5 * y.abs().max().item())


# --- the penalty's arithmetic


@pytest.mark.parametrize("kind", ["two-sided", "one-sided", "squared"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(64, 3, 32, 32), (7, 501), (1, 1), (4, 3, 128, 128), (2048, 2)], ids=str)
def test_grad_norm_penalty(shape, dtype, kind):
    grad = normal(torch.Generator().manual_seed(0), *shape) / math.sqrt(math.prod(shape[1:]))

    def ours(g):
        return ops.grad_norm_penalty(g, kind=kind, target=0.8, return_norms=True)

    def reference(g):
        return ops.grad_norm_penalty_reference(g, kind=kind, target=0.8)

    agree(ours, reference, [grad], dtype)


def test_a_zero_gradient_gives_zero_to_every_order():
    grad = torch.randn(4, 3, 8, 8, device="cuda")
    grad[1] = 0
    grad.requires_grad_()
    (first,) = torch.autograd.grad(ops.grad_norm_penalty(grad), grad, create_graph=True)
    (second,) = torch.autograd.grad(first, grad, torch.randn_like(first))
    assert first.isfinite().all() and (first[1] == 0).all()
    assert second.isfinite().all() and (second[1] == 0).all()


# --- all of them

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


OP = torch.ops.fastgan


def test_opcheck():
    x = sample().requires_grad_()
    bias = torch.randn(6, device="cuda", requires_grad=True)
    q, k, v = (torch.randn(1, 2, 9, 8, device="cuda", requires_grad=True) for _ in range(3))
    u, w = torch.randn(4, device="cuda"), torch.randn(384, device="cuda")
    opcheck(OP.normalize.default, (x, bias, bias, 3, 1e-5))
    opcheck(OP.bias_act.default, (x, bias, 1, 3, 0.2, 1.0, math.inf))
    opcheck(OP.attention.default, (q, k, v, None, 0.3, False))
    opcheck(OP.grad_norm_penalty.default, (x, 1.0, 0, 0.0))
    opcheck(OP.spectral_norm.default, ([x], [u], [w], 1, 1e-12, True), test_utils=("test_schema", "test_faketensor"))


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
