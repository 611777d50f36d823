"""Exact attention at flash memory that differentiates twice: dot-product and L2 similarity.

Vaswani et al., "Attention Is All You Need", 2017; Zhang et al., "Self-Attention Generative Adversarial Networks", 2018;
Kim et al., "The Lipschitz Constant of Self-Attention", 2021 (L2); Dao et al., "FlashAttention", 2022 (online softmax).
"""

import functools
import math
from typing import Any, Literal

import torch
from torch.autograd import forward_ad

from fastgan.ops._autograd import has_tangent, only_wanted, register
from fastgan.ops._contract import accumulate_dtype, check_activation, check_choice, check_tensor, empty_output
from fastgan.ops._torch_private import functorch_is_active, save_for_backward, wanted

Similarity = Literal["dot", "l2"]
LARGEST_WIDTH_ON_CUDA = 256


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    scale: float | None = None,
    similarity: Similarity = "dot",
    key_bias: torch.Tensor | None = None,
    is_causal: bool = False,
) -> torch.Tensor:
    """softmax(S) V with S = scale * Q K^T + key_bias ("dot") or S = -scale * |q_i - k_j|^2 + key_bias ("l2").

    Args:
        q: queries (B, H, N, D).
        k: keys (B, H, M, D); v: values (B, H, M, Dv). N != M, D != Dv and any strides are allowed; B and H broadcast.
        scale: default 1 / sqrt(D); 1.0 is SAGAN's.
        similarity: "dot" or "l2"; the L2 form is Lipschitz where the dot-product form is not.
        key_bias: added to every query's logits, (B, H, M) or broadcastable to it; -inf hides a key. Any float dtype.
        is_causal: query i sees keys j <= i, counted from the top left corner also where N != M, as in torch's
            scaled_dot_product_attention.

    Returns:
        (B, H, N, Dv). A query that sees no key gets zeros.

    dtypes: float64, float32, bfloat16, float16; logits, softmax and sums in float32 (float64 for float64). Under
    autocast q, k, v are cast to its dtype, as torch's own attention does.
    Devices: CPU, CUDA (Triton; D and Dv up to 256); elsewhere, for float64 on CUDA, on GPUs below compute
    capability 8.0, under torch.func, and under forward-mode AD when an input requires a gradient, `attention_reference`
    runs, with the N x M matrix in memory. Without such an input forward-mode AD calls `attention_jvp`.
    Derivatives: to second order with respect to q, k, v and key_bias; a gradient that is not wanted is not computed; a
    third order raises. Memory is O(N + M) in every pass, and results do not depend on the number of threads.
    Errors: ValueError or TypeError that names the argument.
    """
    run = _route(q, k, v, key_bias)
    try:
        _check_scale(scale)
        check_choice("similarity", similarity, ("dot", "l2"))
        if run is None:
            dual = _dual(q, k, v, key_bias, scale=scale, similarity=similarity, is_causal=is_causal)
            if dual is not None:
                return dual
        q, k, v, key_bias, scale = _prepare(q, k, v, scale, key_bias)
        if run is None or _has_no_kernel(q, v):
            _check(q, k, v, scale, similarity, key_bias)
            return _reference(q, k, v, scale, similarity, key_bias, is_causal)
        if key_bias is not None:
            key_bias = key_bias.to(accumulate_dtype(q))
        if similarity == "l2":
            key_bias, scale = _of_distances(k, key_bias, scale)
        return run(q, k, v, key_bias, scale, is_causal)[0]
    except Exception:  # the op checks at no cost; here is what is wrong, in words
        _check(q, k, v, scale, similarity, key_bias)
        raise


def attention_reference(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    scale: float | None = None,
    similarity: Similarity = "dot",
    key_bias: torch.Tensor | None = None,
    is_causal: bool = False,
) -> torch.Tensor:
    """The same in plain torch, differentiable in every mode and to any order, with the N x M matrix in memory."""
    _check(q, k, v, scale, similarity, key_bias)
    q, k, v, key_bias, scale = _prepare(q, k, v, scale, key_bias)
    return _reference(q, k, v, scale, similarity, key_bias, is_causal)


def attention_jvp(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    q_tangent: torch.Tensor | None = None,
    k_tangent: torch.Tensor | None = None,
    v_tangent: torch.Tensor | None = None,
    *,
    scale: float | None = None,
    similarity: Similarity = "dot",
    key_bias: torch.Tensor | None = None,
    key_bias_tangent: torch.Tensor | None = None,
    is_causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(O, dO): attention and its derivative along tangents X, Y, Z of q, k, v and x of key_bias.

    dO = (P * (E - mu)) V + P Z with P = softmax(S), E = dS (scale (X K^T + Q Y^T) + x for "dot"), mu = rowsum(P * E).

    Args:
        q, k, v, scale, similarity, key_bias, is_causal: as `attention` takes them.
        q_tangent, k_tangent, v_tangent, key_bias_tangent: each like its tensor; None stands for zeros.

    Returns:
        two tensors (B, H, N, Dv).

    dtypes, devices: as `attention`. Forward-mode AD calls this function when no input requires a gradient.
    Derivatives: O as `attention`; dO to first order, with respect to the tensors and their tangents; a third
    derivative of O raises. Memory is O(N + M) in every pass, N x M under torch.func and without a kernel.
    Errors: ValueError or TypeError that names the argument.
    """
    _check(q, k, v, scale, similarity, key_bias)
    given = (("q", q, q_tangent), ("k", k, k_tangent), ("v", v, v_tangent), ("key_bias", key_bias, key_bias_tangent))
    for name, t, tangent in given:
        check_tensor(f"{name}_tangent", tangent, optional=True)
        if tangent is None:
            continue
        if t is None:
            raise ValueError(f"{name}_tangent must be None without {name}: pass {name} too")
        if (tangent.shape, tangent.dtype, tangent.device) != (t.shape, t.dtype, t.device):
            raise ValueError(
                f"{name}_tangent must be like {name}, {tuple(t.shape)} {t.dtype} on {t.device};"
                f" got {tuple(tangent.shape)} {tangent.dtype} on {tangent.device}"
            )
    present = [t for *_, t in given if t is not None]
    if not present:
        raise ValueError("one tangent at least must be a tensor, got None for all: call attention instead")
    run = _route(q, k, v, key_bias, *present)
    q, k, v, key_bias, scale = _prepare(q, k, v, scale, key_bias)
    tensors = q, k, v, key_bias
    tangents = [
        None if d is None or t is None else d.to(t.dtype).expand_as(t)
        for t, (*_, d) in zip(tensors, given, strict=True)
    ]
    if run is None or _has_no_kernel(q, v):
        return _reference_jvp(tensors, tangents, scale, similarity, is_causal)
    x, y, z, x_bias = tangents
    accumulate = accumulate_dtype(q)
    key_bias, x_bias = (None if t is None else t.to(accumulate) for t in (key_bias, x_bias))
    if similarity == "l2":
        if y is not None:
            moved = -2 * scale * (k.to(accumulate) * y.to(accumulate)).sum(-1)
            x_bias = moved if x_bias is None else x_bias + moved
        key_bias, scale = _of_distances(k, key_bias, scale)
    out, logsumexp = run(q, k, v, key_bias, scale, is_causal)
    known = out.detach(), logsumexp.detach()  # _Tangent's derivative holds their share
    return out, _Tangent.apply(x, y, z, x_bias, q, k, v, key_bias, *known, scale, is_causal)


class _Tangent(torch.autograd.Function):
    """ddO of the double backward. It is linear in the tangents, so that their gradient is attention's backward; that of
    the tensors is the double backward's, which raises when it is differentiated."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> torch.Tensor:
        *tensors, ctx.scale, ctx.is_causal = inputs
        save_for_backward(ctx, *tensors)
        tangents, fixed = tensors[:4], tensors[4:]
        out = fixed[-2]  # in the place of dO, which ddO does not depend on
        only_first = (True, *(False,) * 5)
        return _second_order(*tangents, out, None, *fixed, ctx.scale, ctx.is_causal, only_first)[0]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        if grad is None:
            return (None,) * 12
        tensors, needs = ctx.saved_tensors, ctx.needs_input_grad
        tangents, fixed = tensors[:4], tensors[4:]
        of_tangents, of_tensors = needs[:4], needs[4:8]
        grads = [None] * 8
        if any(of_tangents):
            first = _first_order(grad, None, *fixed, ctx.scale, ctx.is_causal, of_tangents)
            grads[:4] = only_wanted(first, of_tangents)
        if any(of_tensors):
            mask = (False, False, *of_tensors)
            second = _second_order(*tangents, grad, None, *fixed, ctx.scale, ctx.is_causal, mask)
            grads[4:] = only_wanted(second[2:], of_tensors)
        return *grads, *(None,) * 4


def _reference_jvp(tensors, tangents, scale, similarity, is_causal):
    """Of the reference; torch.func differentiates it in every mode, but takes no expanded tensors."""

    def function(q, k, v, key_bias=None):
        return _reference(q, k, v, scale, similarity, key_bias, is_causal)

    count = 3 if tensors[3] is None else 4
    fixed = tuple([t.contiguous() for t in tensors[:count]])
    moving = [
        torch.zeros_like(t) if d is None else d.contiguous() for t, d in zip(fixed, tangents[:count], strict=True)
    ]
    out, tangent = torch.func.jvp(function, fixed, tuple(moving))[:2]
    return out, tangent


def _dual(*tensors, **setting):
    """attention of q, k, v, key_bias with tangents of forward-mode AD; None: the reference has to serve.

    A gradient of a dual output would be without its tangent, so that no input may require one.
    """
    if functorch_is_active() or not has_tangent(*tensors):
        return None
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return None
    pairs = [(None, None) if t is None else forward_ad.unpack_dual(t) for t in tensors]
    (q, k, v, key_bias), (x, y, z, x_bias) = zip(*pairs, strict=True)
    if _route(q, k, v, key_bias, x, y, z, x_bias) is None or _has_no_kernel(q, v):
        return None
    return forward_ad.make_dual(*attention_jvp(q, k, v, x, y, z, key_bias=key_bias, key_bias_tangent=x_bias, **setting))


def _of_distances(k, key_bias, scale):
    """Key bias and scale with which the dot product is the L2 similarity.

    -scale |q - k|^2 = 2 scale q.k - scale |k|^2 - scale |q|^2; a row's constant leaves the softmax alone.
    """
    squares = -scale * k.to(accumulate_dtype(k)).square().sum(-1)
    return squares if key_bias is None else key_bias + squares, 2 * scale


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """torch.nn.functional.scaled_dot_product_attention with two derivatives, the same arguments.

    query (..., N, D), key (..., M, D), value (..., M, Dv). attn_mask may say which keys are visible (bool) or what is
    added to the logits of a key (float), the same for every query: shape (M,), (1, M) or (..., 1, M). Dropout, masks
    that differ between queries, and enable_gqa raise. dtypes, devices, derivatives: as `attention`.
    """
    if dropout_p:
        raise ValueError(
            f"dropout_p must be 0, got {dropout_p}: apply torch.nn.functional.dropout to the output instead"
        )
    if enable_gqa:
        raise ValueError("enable_gqa is not supported: repeat key and value with repeat_interleave(groups, dim=-3)")
    for name, t in (("query", query), ("key", key), ("value", value)):
        if not isinstance(t, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(t).__name__}")
        if t.dim() < 2:
            raise ValueError(f"{name} must have at least two dimensions (..., rows, channels), got {tuple(t.shape)}")
    leading = _broadcast_shapes("query, key and value", *(t.shape[:-2] for t in (query, key, value)))
    key_bias = None if attn_mask is None else _key_bias_of_mask(attn_mask, query, key, leading)
    folded = [t.expand(*leading, *t.shape[-2:]).reshape(1, -1, *t.shape[-2:]) for t in (query, key, value)]
    if math.prod(leading) == 0:  # reshape cannot infer -1 of nothing
        folded = [t.expand(*leading, *t.shape[-2:]).reshape(1, 0, *t.shape[-2:]) for t in (query, key, value)]
    out = attention(*folded, scale=scale, key_bias=key_bias, is_causal=is_causal)
    return out.reshape(*leading, *out.shape[-2:])


def _key_bias_of_mask(mask, query, key, leading):
    if not isinstance(mask, torch.Tensor):
        raise TypeError(f"attn_mask must be a tensor, got {type(mask).__name__}")
    rows, keys = query.shape[-2], key.shape[-2]
    same_for_all = mask.dim() < 2 or mask.shape[-2] == 1 or mask.stride(-2) == 0
    if not same_for_all:
        raise ValueError(
            f"attn_mask must be the same for every query, of shape (..., 1, {keys}), got {tuple(mask.shape)}: for a"
            " causal mask pass is_causal=True; other masks between queries and keys have no kernel"
        )
    if mask.dim() >= 2:
        mask = mask[..., 0, :] if mask.shape[-2] in (1, rows) else mask
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=accumulate_dtype(query)).masked_fill_(~mask, -math.inf)
    shape = (*leading, keys)
    try:
        return mask.expand(shape).reshape(1, math.prod(leading), keys)
    except RuntimeError:
        raise ValueError(f"attn_mask must broadcast to {(*leading, rows, keys)}, got {tuple(mask.shape)}") from None


def _broadcast_shapes(names, *shapes):
    try:
        return torch.broadcast_shapes(*shapes)
    except RuntimeError:
        raise ValueError(f"{names} must agree in batch and heads, or be broadcastable, got {shapes}") from None


def _prepare(q, k, v, scale, key_bias):
    """Casts under autocast, broadcasts batch and heads (views, no copies)."""
    if torch.is_autocast_enabled(q.device.type) and torch.float64 not in (q.dtype, k.dtype, v.dtype):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    batch_heads = q.shape[:2]
    if not batch_heads == k.shape[:2] == v.shape[:2]:
        batch_heads = torch.broadcast_shapes(*(t.shape[:2] for t in (q, k, v)))
        q, k, v = (t.expand(*batch_heads, *t.shape[2:]) for t in (q, k, v))
    if key_bias is not None:
        if not key_bias.dtype.is_floating_point:
            raise TypeError("key_bias")  # _check says more
        key_bias = key_bias.expand(*batch_heads, k.shape[2])
    return q, k, v, key_bias, 1 / math.sqrt(q.shape[3]) if scale is None else float(scale)


def _is_wide(q, v):
    return max(q.shape[3], v.shape[3]) > LARGEST_WIDTH_ON_CUDA


def _has_no_kernel(q: torch.Tensor, v: torch.Tensor) -> bool:
    return q.is_cuda and (q.dtype == torch.float64 or _is_wide(q, v) or not _has_matrix_units(q.device))


def _has_matrix_units(device: torch.device) -> bool:
    """Whether Triton multiplies matrices on matrix units there: from compute capability 8.0 on."""
    return (_capability if torch.compiler.is_compiling() else _known_capability)(device) >= 8


def _capability(device: torch.device) -> float:
    """The major one; a compiler may trace for a GPU that is not here."""
    return torch.cuda.get_device_capability(device)[0] if torch.cuda.is_available() else math.inf


_known_capability = functools.cache(_capability)


def _check_scale(scale):
    if scale is not None and (isinstance(scale, torch.Tensor) or not isinstance(scale, (int, float))):
        raise TypeError(
            f"scale must be a number, got {type(scale).__name__}; a learned scale multiplies q, with scale=1.0 here"
        )


def _check(q, k, v, scale, similarity, key_bias):
    for name, t in (("q", q), ("k", k), ("v", v)):
        check_tensor(name, t)
        if t.dim() != 4:
            raise ValueError(f"{name} must have shape (batch, heads, rows, channels), got {tuple(t.shape)}")
        check_activation(name, t)
        if t.device != q.device:
            raise TypeError(f"{name} must be on {q.device} like q, got {t.device}")
    autocast = torch.is_autocast_enabled(q.device.type) and torch.float64 not in (q.dtype, k.dtype, v.dtype)
    for name, t in (("k", k), ("v", v)):
        if t.dtype != q.dtype and not autocast:
            raise TypeError(f"{name} must be {q.dtype} like q, got {t.dtype}")
    if q.shape[3] != k.shape[3]:
        raise ValueError(f"k must have q's {q.shape[3]} channels, got {tuple(k.shape)}")
    if v.shape[2] != k.shape[2]:
        raise ValueError(f"v must have one row per key: {k.shape[2]} keys, got {tuple(v.shape)}")
    if q.shape[3] == 0 or v.shape[3] == 0:
        raise ValueError(f"q and v must have at least one channel, got {tuple(q.shape)} and {tuple(v.shape)}")
    if q.is_cuda and _is_wide(q, v):
        raise ValueError(
            f"q and v can have up to {LARGEST_WIDTH_ON_CUDA} channels on CUDA, got {q.shape[3]} and {v.shape[3]}:"
            " use more heads"
        )
    check_choice("similarity", similarity, ("dot", "l2"))
    _check_scale(scale)
    batch_heads = _broadcast_shapes("q, k and v", *(t.shape[:2] for t in (q, k, v)))
    check_tensor("key_bias", key_bias, optional=True)
    if key_bias is None:
        return
    if not key_bias.dtype.is_floating_point:
        raise TypeError(
            f"key_bias must be a floating-point tensor (0 shows a key, -inf hides it), got {key_bias.dtype}"
        )
    if key_bias.device != q.device:
        raise TypeError(f"key_bias must be on {q.device} like q, got {key_bias.device}")
    shape = (*batch_heads, k.shape[2])
    try:
        key_bias.expand(shape)
    except RuntimeError:
        raise ValueError(f"key_bias must be broadcastable to {shape}, got {tuple(key_bias.shape)}") from None


def _reference(q, k, v, scale, similarity, key_bias, is_causal):
    dtype, accumulate = q.dtype, accumulate_dtype(q)
    q, k, v = (t.to(accumulate) for t in (q, k, v))
    if similarity == "l2":
        logits = scale * (2 * q @ k.mT - q.square().sum(-1)[..., None] - k.square().sum(-1)[..., None, :])
    else:
        logits = scale * (q @ k.mT)
    if key_bias is not None:
        logits = logits + key_bias.to(accumulate)[..., None, :]
    if is_causal:
        hidden = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        logits = logits.masked_fill(hidden, -math.inf)
    if k.shape[2] == 0:
        return (logits @ v).to(dtype)
    largest = logits.detach().amax(-1, keepdim=True)
    weights = torch.exp(logits - largest.masked_fill(largest == -math.inf, 0))
    total = weights.sum(-1, keepdim=True)
    return ((weights / total.masked_fill(total == 0, 1)) @ v).to(dtype)


# --- shapes, for torch.compile and opcheck


@torch.library.register_fake("fastgan::attention")
def _(q, k, v, key_bias, scale, is_causal):
    _check(q, k, v, scale, "dot", key_bias)
    return q.new_empty((*q.shape[:3], v.shape[3])), q.new_empty(q.shape[:3], dtype=accumulate_dtype(q))


@torch.library.register_fake("fastgan::attention_backward")
def _(grad_out, grad_logsumexp, q, k, v, key_bias, out, logsumexp, scale, is_causal, output_mask):
    *like, of_bias = output_mask
    grads = (empty_output(want, t) for want, t in zip(like, (q, k, v), strict=True))
    return (*grads, empty_output(of_bias, q, k.shape[:3], accumulate_dtype(q)))


@torch.library.register_fake("fastgan::attention_double_backward")
def _(x, y, z, x_bias, grad_out, grad_logsumexp, q, k, v, key_bias, out, logsumexp, scale, is_causal, output_mask):
    accumulate = accumulate_dtype(q)
    shapes = [
        (grad_out.shape, q.dtype),
        (q.shape[:3], accumulate),
        (q.shape, q.dtype),
        (k.shape, q.dtype),
        (v.shape, q.dtype),
        (k.shape[:3], accumulate),
    ]
    return tuple(empty_output(want, q, *how) for want, how in zip(output_mask, shapes, strict=True))


# --- derivatives. out and logsumexp are functions of q, k, v, key_bias: their share is in the gradients of those.


def _save(ctx, inputs, output):
    q, k, v, key_bias, ctx.scale, ctx.is_causal = inputs
    save_for_backward(ctx, q, k, v, key_bias, *output)


def _backward(ctx, grad_out, grad_logsumexp):
    mask = wanted(ctx, 4)
    if (grad_out is None and grad_logsumexp is None) or not any(mask):
        return (None,) * 6
    saved = ctx.saved_tensors  # read once: torch.utils.checkpoint gives them only once
    *_, out, _logsumexp = saved
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    grads = _first_order(grad_out, grad_logsumexp, *saved, ctx.scale, ctx.is_causal, mask)
    return *only_wanted(grads, mask), None, None


def _save_backward(ctx, inputs, output):
    *tensors, ctx.scale, ctx.is_causal, ctx.mask = inputs
    save_for_backward(ctx, *tensors)


def _double_backward(ctx, *cotangents):
    cotangents, mask = only_wanted(cotangents, ctx.mask), ctx.needs_input_grad[:6]
    if all([t is None for t in cotangents]) or not any(mask):
        return (None,) * 11
    grads = _second_order(*cotangents, *ctx.saved_tensors, ctx.scale, ctx.is_causal, mask)
    return (*only_wanted(grads, mask), *(None,) * 5)


_route, _first_order, _second_order = register(
    "attention", (_save, _backward), (_save_backward, _double_backward), triton=True
)
