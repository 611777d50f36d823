"""The attention's cases: dot product and L2."""

import math

import torch
from hypothesis import strategies as st

from fastgan.ops import attention, attention_reference
from tests.contract.op import Case, Op, accumulator

OPS = torch.ops.fastgan
VARIANTS = {
    "dot": {},
    "causal": {"is_causal": True},
    "L2": {"similarity": "l2", "scale": 0.3},
    "key bias": {"key_bias": True},
    "causal L2, key bias": {"similarity": "l2", "key_bias": True, "is_causal": True},
}


def plain(q, k, v, key_bias=None, scale=None, similarity="dot", is_causal=False):
    """As a user writes it, with the N x M matrix in memory."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if similarity == "l2":
        logits = -scale * (q[..., :, None, :] - k[..., None, :, :]).square().sum(-1)
    else:
        logits = scale * (q @ k.mT)
    logits = logits if key_bias is None else logits + key_bias[..., None, :]
    if is_causal:
        hidden = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        logits = logits.masked_fill(hidden, -math.inf)
    return logits.softmax(-1) @ v


def normal(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def case(name, B, H, N, M, D, Dv, key_bias=False, seed=0, shapes=None, float64=1e-11, **setting):
    shapes = {"q": (B, H, N, D), "k": (B, H, M, D), "v": (B, H, M, Dv)} | (shapes or {})
    if key_bias:
        shapes.setdefault("key_bias", (B, H, M))

    def call(function):
        return lambda q, k, v, key_bias=None: {"out": function(q, k, v, key_bias=key_bias, **setting)}

    # |q - k|^2 by parts cancels
    bound = 1e-4 if setting.get("similarity") == "l2" else 2e-5
    tensors = lambda: normal(shapes, seed)  # noqa: E731
    return Case(name, call(attention), call(attention_reference), tensors, call(plain), float32=bound, float64=float64)


def logsumexp_case(N, M, is_causal):
    """The op's second output, which the public function does not return, is differentiable as well."""

    def ours(q, k, v, key_bias):
        out, logsumexp = OPS.attention(q, k, v, key_bias.to(accumulator(q.dtype)), 0.7, is_causal)
        return {"out": out, "logsumexp": logsumexp}

    def reference(q, k, v, key_bias):
        logits = 0.7 * q @ k.mT + key_bias[..., None, :]
        if is_causal:
            logits = logits.masked_fill(torch.ones(N, M, dtype=torch.bool, device=q.device).triu(1), -math.inf)
        return {"out": logits.softmax(-1) @ v, "logsumexp": logits.logsumexp(-1)}

    shapes = {"q": (1, 2, N, 3), "k": (1, 2, M, 3), "v": (1, 2, M, 4), "key_bias": (1, 2, M)}
    name = f"logsumexp{', causal' if is_causal else ''}"
    return Case(name, ours, reference, lambda: normal(shapes), raw=True)


SIZES = {
    "ragged": (1, 1, 5, 7, 3, 2),
    "wide values": (1, 1, 40, 33, 32, 128),
    "many keys": (1, 1, 17, 400, 64, 17),
    "one element": (1, 1, 1, 1, 1, 1),
    "wide": (1, 1, 7, 9, 256, 200),
    "more keys than queries": (1, 1, 40, 130, 16, 8),
}
EMPTY = {
    "no queries": (2, 1, 0, 5, 3, 2),
    "no keys": (2, 1, 5, 0, 3, 2),
    "no batch": (0, 1, 5, 5, 3, 2),
    "no heads": (1, 0, 5, 5, 3, 2),
}
HUGE = [(2, 1, 1024, 256, 32, 128), (1, 2, 700, 900, 64, 64), (1, 1, 97, 400, 100, 17), (1, 1, 130, 70, 256, 200)]


def raw_calls(dtype=torch.float64):
    t = case("", 2, 2, 5, 6, 3, 4, key_bias=True).inputs(dtype)
    t = {name: x.to(accumulator(dtype) if name == "key_bias" else dtype).requires_grad_() for name, x in t.items()}
    calls, inputs, setting = [], list(t.values()), (0.5, True)
    calls.append((OPS.attention, (*inputs, *setting)))
    out, logsumexp = (t.detach() for t in OPS.attention(*inputs, *setting))
    saved = (torch.randn_like(out).requires_grad_(), torch.randn_like(logsumexp).requires_grad_(), *inputs)
    fixed = (*(t.detach() for t in saved), out, logsumexp, *setting)
    cotangents = [torch.randn_like(t) for t in inputs]
    for mask in ([True] * 4, [True, False, True, False]):
        calls.append((OPS.attention_backward, (*saved, out, logsumexp, *setting, mask)))
    calls.append((OPS.attention_double_backward, (*cotangents, *fixed, [True] * 6)))
    some = [True, False, False, True, False, False]
    calls.append((OPS.attention_double_backward, (None, cotangents[1], None, None, *fixed, some)))
    return calls


def _with(**change):
    q, k, v = normal({"q": (2, 2, 4, 3), "k": (2, 2, 5, 3), "v": (2, 2, 5, 3)}).values()
    return lambda: attention(**{"q": q, "k": k, "v": v, **change})


BAD = {
    "q is None": (_with(q=None), TypeError, "q must be a tensor, got NoneType"),
    "k is a vector": (_with(k=torch.zeros(3)), ValueError, r"k must have shape \(batch, heads, rows, channels\)"),
    "q of integers": (_with(q=torch.zeros(1, 1, 2, 3, dtype=torch.int64)), TypeError, "q must be float64, float32"),
    "v of another dtype": (_with(v=torch.zeros(1, 1, 5, 3)), TypeError, "v must be torch.float64 like q"),
    "k of another width": (_with(k=torch.zeros(1, 1, 5, 4).double()), ValueError, "k must have q's 3 channels"),
    "v of another length": (_with(v=torch.zeros(1, 1, 6, 3).double()), ValueError, "one row per key: 5 keys"),
    "another batch": (_with(k=torch.zeros(3, 2, 5, 3).double()), ValueError, "agree in batch and heads"),
    "unknown similarity": (_with(similarity="cosine"), ValueError, "similarity must be one of dot, l2"),
    "a learned scale": (_with(scale=torch.ones(())), TypeError, "scale must be a number, got Tensor"),
    "boolean key bias": (_with(key_bias=torch.ones(5, dtype=torch.bool)), TypeError, "key_bias must be a floating"),
    "short key bias": (_with(key_bias=torch.ones(4)), ValueError, "key_bias must be broadcastable"),
    "another device": (_with(v=torch.zeros(1, 1, 5, 3, device="meta")), TypeError, "v must be on cpu like q, got meta"),
}


def bad_raw_calls():
    q, k, v = (t[:, :1] for t in normal({"q": (1, 1, 4, 3), "k": (1, 1, 5, 3), "v": (1, 1, 5, 2)}).values())
    forward = lambda *a: lambda: OPS.attention(*a, 1.0, False)  # noqa: E731
    return {
        "three dimensions": forward(q[0], k, v, None),
        "another dtype": forward(q, k.float(), v, None),
        "another width": forward(q, k[..., :2], v, None),
        "another length": forward(q, k, v[..., :2, :], None),
        "key bias is a vector": forward(q, k, v, torch.zeros(5)),
        "key bias of another dtype": forward(q, k, v, torch.zeros(1, 1, 5)),
        "integers": forward(q.long(), k.long(), v.long(), None),
        "no channels": forward(q[..., :0], k[..., :0], v, None),
    }


OP = Op(
    name="attention",
    tiny=[case(name, 1, 2, 4, 5, 3, 2, **setting) for name, setting in VARIANTS.items()]
    + [logsumexp_case(4, 5, False)],
    cases=[
        *(case(name, 1, 1, 50, 70, 8, 8, **setting) for name, setting in VARIANTS.items()),
        *(
            case(f"{name}, {size}", *SIZES[size], **VARIANTS[name])
            for size in SIZES
            for name in ("dot", "causal L2, key bias")
        ),
        *(case(name, *size, key_bias=True) for name, size in EMPTY.items()),
        case("broadcast", 2, 3, 10, 12, 4, 5, shapes={"k": (1, 3, 12, 4), "v": (2, 1, 12, 5), "key_bias": (3, 12)}),
        *(case(f"scale {scale}", 1, 2, 20, 30, 8, 8, scale=scale, float64=1e-9) for scale in (1e-8, -1.0, 0.0)),
        logsumexp_case(20, 30, True),
    ],
    large=[case("long", 1, 1, 300, 90, 16, 8, is_causal=True), case("many heads", 3, 2, 70, 40, 8, 8, key_bias=True)],
    huge=[
        case(f"{name}, {'x'.join(map(str, size))}", *size, **setting)
        for name, setting in VARIANTS.items()
        for size in HUGE
    ],
    drawn=st.builds(
        lambda size, variant, seed: case("drawn", *size, seed=seed, **VARIANTS[variant]),
        st.tuples(*(st.integers(1, n) for n in (2, 2, 110, 110, 40, 40))),
        st.sampled_from(sorted(VARIANTS)),
        st.integers(0, 1000),
    ),
    raw_calls=raw_calls,
    bad_calls=BAD,
    bad_raw_calls=bad_raw_calls(),
    wide=("key_bias",),
    autocast=torch.bfloat16,
    triton=(torch.float32, torch.float16),
)
