"""Spectral norm of a list of weights at once (Miyato et al., "Spectral Normalization for GANs", 2018, Algorithm 1)."""

from collections.abc import Sequence

import torch

from fastgan.ops._autograd import register
from fastgan.ops._contract import check_activation, check_at_least_zero, check_tensor, empty_output
from fastgan.ops._torch_private import backward_pass, save_for_backward


def spectral_norm(
    weights: Sequence[torch.Tensor],
    us: Sequence[torch.Tensor],
    vs: Sequence[torch.Tensor],
    *,
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    update: bool = True,
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """Divide every weight by its largest singular value, estimated by power iteration: W / sigma, sigma = u^T W v.

    Each iteration is u <- W v / max(|W v|, eps), v <- W^T u / max(|W^T u|, eps). Since v is then the normalised W^T u,
    sigma = |W^T u| costs no further product. u and v are constants of the derivative, as in the paper.

    Args:
        weights: list of matrices (R_i, C_i), or tensors (R_i, ...) read as such: a convolution (out, in, kh, kw) is the
            matrix (out, in * kh * kw).
        us, vs: lists of vectors (R_i,) and (C_i,), the estimates of the leading singular vectors so far.
        n_power_iterations: iterations per call, at least 1.
        eps: lower bound of a norm that is divided by.
        update: False leaves u, v as they are (evaluation): sigma = u^T W v with the given vectors.

    Returns:
        (normalized_weights, sigmas, new_us, new_vs): lists like the inputs, all fresh tensors; sigmas are 0-d. new_us
        and new_vs never require grad.

    dtypes: float64, float32, bfloat16, float16, one for all tensors; sums accumulate in float32 (float64 in float64).
    Devices: CPU, CUDA; elsewhere, and under forward-mode AD or torch.func, the plain-torch reference runs.
    Derivatives: to second order, with respect to the weights through W and sigma; a third order raises.
    Errors: ValueError or TypeError that names the argument. A weight without a largest singular value (zero, NaN,
    infinite) follows the arithmetic, as in torch: the result is NaN.
    """
    weights, us, vs = list(weights), list(us), list(vs)
    run = _route(weights) if weights else None  # an op without tensors has no device to run on
    if run is None:
        _check(weights, us, vs, n_power_iterations, eps)
        return spectral_norm_reference(weights, us, vs, n_power_iterations=n_power_iterations, eps=eps, update=update)
    try:
        return run(weights, us, vs, n_power_iterations, eps, update)
    except Exception:  # the op checks at no cost; here is what is wrong, in words
        _check(weights, us, vs, n_power_iterations, eps)
        raise


def spectral_norm_reference(
    weights: Sequence[torch.Tensor],
    us: Sequence[torch.Tensor],
    vs: Sequence[torch.Tensor],
    *,
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    update: bool = True,
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """The same in plain torch, differentiable in every mode and to any order."""
    results: tuple[list[torch.Tensor], ...] = ([], [], [], [])
    for w, u, v in zip(weights, us, vs, strict=True):
        matrix = w.flatten(1)
        constant = matrix.detach()
        u, v = u.detach().clone(), v.detach().clone()
        for _ in range(n_power_iterations if update else 0):
            u = torch.nn.functional.normalize(constant @ v, dim=0, eps=eps)
            v = torch.nn.functional.normalize(constant.t() @ u, dim=0, eps=eps)
        sigma = torch.dot(u, matrix @ v)
        for out, value in zip(results, (w / sigma, sigma, u, v), strict=True):
            out.append(value)
    return results[0], results[1], results[2], results[3]


def _check(weights, us, vs, n_power_iterations, eps):
    if n_power_iterations < 1:
        raise ValueError(f"n_power_iterations must be at least 1, got {n_power_iterations}")
    check_at_least_zero("eps", eps)
    for name, vectors in (("us", us), ("vs", vs)):
        if len(vectors) != len(weights):
            raise ValueError(f"{name} must have one vector per weight: {len(weights)} weights, {len(vectors)} {name}")
    for i, (w, u, v) in enumerate(zip(weights, us, vs, strict=True)):
        check_tensor(f"weights[{i}]", w)
        if w.dim() < 2 or w.numel() == 0:
            raise ValueError(f"weights[{i}] must be a non-empty matrix (out, in, ...), got shape {tuple(w.shape)}")
        check_activation(f"weights[{i}]", w)
        for name, vector, length in (("weights", w, None), ("us", u, w.shape[0]), ("vs", v, w.shape[1:].numel())):
            check_tensor(f"{name}[{i}]", vector)
            if vector.dtype != weights[0].dtype or vector.device != weights[0].device:
                raise TypeError(
                    f"{name}[{i}] must be {weights[0].dtype} on {weights[0].device} like weights[0],"
                    f" got {vector.dtype} on {vector.device}"
                )
            if length is not None and tuple(vector.shape) != (length,):
                raise ValueError(f"{name}[{i}] must have shape ({length},), got {tuple(vector.shape)}")
            if length is not None and vector.requires_grad:
                raise ValueError(f"{name}[{i}] is a constant of the derivative and must not require grad: detach it")


# --- shapes, for torch.compile and opcheck


@torch.library.register_fake("fastgan::spectral_norm")
def _(weights, us, vs, n_power_iterations, eps, update):
    _check(weights, us, vs, n_power_iterations, eps)
    return (
        [w.new_empty(w.shape) for w in weights],
        [w.new_empty(()) for w in weights],
        [u.new_empty(u.shape) for u in us],
        [v.new_empty(v.shape) for v in vs],
    )


@torch.library.register_fake("fastgan::spectral_norm_backward")
def _(grads, grad_sigmas, weights, sigmas, us, vs, output_mask):
    return [empty_output(output_mask[0], w) for w in weights]


@torch.library.register_fake("fastgan::spectral_norm_double_backward")
def _(hs, grads, weights, sigmas, us, vs, output_mask):
    shapes = (None, (), None, ())  # None: the weight's
    return tuple([empty_output(want, w, s) for w in weights] for want, s in zip(output_mask, shapes, strict=True))


# --- derivatives; u and v are constants


# A layer that nobody used has no gradient at all, and gets none: an optimiser tells None from zero.


def _for_used_layers(derivative, grads, others):
    """derivative(*grads, *others) -> lists, of the layers for which one of grads is there; None for the rest."""
    used = [i for i, of_layer in enumerate(zip(*grads, strict=True)) if any(g is not None for g in of_layer)]
    count = len(grads[0])
    if len(used) == count:
        return derivative(*grads, *others)
    if not used:
        return [[None] * count]
    results = derivative(*([tensors[i] for i in used] for tensors in (*grads, *others)))
    place = {layer: i for i, layer in enumerate(used)}
    return [[result[place[i]] if i in place else None for i in range(count)] for result in results]


def _padded(derivatives, lists):
    """The other input lists are constants."""
    return *derivatives, *([[None] * len(derivatives[0])] * (lists - len(derivatives)))


def _filled(grads, like):
    """Of a layer's two outputs, the one that was not used has gradient zero; a sparse embedding's gradient is dense."""
    if all(g is None for g in grads) and like[0].dim() == 0:  # sigmas, rarely used: one zero serves all
        return [torch.zeros_like(like[0])] * len(like)
    grads = [torch.zeros_like(t) if g is None else g for g, t in zip(grads, like, strict=True)]
    return [g.to_dense() if g.is_sparse else g for g in grads]


def _chunks(tensors, count):
    n = len(tensors) // count
    return [list(tensors[i * n : (i + 1) * n]) for i in range(count)]


def _save(ctx, inputs, output):
    (weights, us, vs, *_), (_normalized, sigmas, new_us, new_vs) = inputs, output
    _require_constant(us, vs)
    ctx.mark_non_differentiable(*new_us, *new_vs)
    save_for_backward(ctx, *weights, *sigmas, *new_us, *new_vs)


def _backward(ctx, grads, grad_sigmas, _grad_us, _grad_vs):
    def derivative(grads, grad_sigmas, weights, sigmas, us, vs):
        grads, grad_sigmas = _filled(grads, weights), _filled(grad_sigmas, sigmas)
        return [_first_order(grads, grad_sigmas, weights, sigmas, us, vs, [True])]

    return *_padded(_for_used_layers(derivative, (grads, grad_sigmas), _chunks(ctx.saved_tensors, 4)), 3), *(None,) * 3


def _save_backward(ctx, inputs, output):
    grads, _grad_sigmas, weights, sigmas, us, vs, _mask = inputs
    _require_constant(us, vs)
    save_for_backward(ctx, *grads, *weights, *sigmas, *us, *vs)


def _double_backward(ctx, hs):
    def derivative(*tensors):
        return _second_order(*tensors, [True] * 4)

    results = _for_used_layers(derivative, (hs,), _chunks(ctx.saved_tensors, 5))
    return *_padded(results, 6), None


def _require_constant(us, vs):
    if any(t.requires_grad for t in (*us, *vs)):
        raise NotImplementedError("us and vs are constants of the spectral norm's derivative: detach them")


def _refuse_recomputation(*args):
    """A compiled graph iterates each time it runs. A layer that is not compiled sees to this itself."""
    if args[-1] and backward_pass() != -1:
        raise RuntimeError(
            "a backward pass runs a compiled forward with spectral norm again (activation checkpointing), but u and v"
            " have iterated since, so that the gradient would be wrong; use torch.compile or checkpointing, not both,"
            " on the part of the model that has spectral norm"
        )


_route, _first_order, _second_order = register(
    "spectral_norm", (_save, _backward), (_save_backward, _double_backward), check=_refuse_recomputation
)
