"""Nodes that multiply by a weight: the tangent of the product, and the gradient of the weight.

A value that autograd has saved is read once, since to read it may recompute a checkpointed forward.
"""

from typing import Any

import torch

Gradients = dict[int, torch.Tensor]
Saved = tuple[Any, Any]  # tensors, None for what autograd has not saved


class Linear:
    """y = W a (+ b). a, w: what autograd has saved of both, None for what no gradient takes."""

    a: Any
    w: Any

    def __init__(self, node: Any, at: int):
        """at: the position of a among the node's tensors."""
        self.node = node
        self.a, self.w = (None if saved is None else saved.detach() for saved in self.saved(at))

    def saved(self, at: int) -> Saved:
        """(a, W)"""
        raise NotImplementedError

    def tangent(self, t: torch.Tensor) -> torch.Tensor:
        """W t"""
        raise NotImplementedError

    def of_weight(self, delta: torch.Tensor, a: torch.Tensor) -> Gradients:
        """{position: gradient}, linear in delta and in a."""
        raise NotImplementedError


class _Convolution(Linear):
    def saved(self, at: int) -> Saved:
        n = self.node
        window = n._saved_stride, n._saved_padding, n._saved_dilation
        self.setting = *window, n._saved_transposed, n._saved_output_padding, n._saved_groups
        return n._saved_input, n._saved_weight

    def tangent(self, t: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten.convolution(t, self.w, None, *self.setting)

    def of_weight(self, delta: torch.Tensor, a: torch.Tensor) -> Gradients:
        wanted = [False, True, False]  # torch's own second derivative of a convolution computes more
        return {1: torch.ops.aten.convolution_backward(delta, a, self.w, None, *self.setting, wanted)[1]}


class _Addmm(Linear):
    def saved(self, at: int) -> Saved:
        return self.node._saved_mat1, self.node._saved_mat2

    def tangent(self, t: torch.Tensor) -> torch.Tensor:
        alpha = self.node._saved_alpha
        return t @ self.w if alpha == 1 else t @ self.w * alpha

    def of_weight(self, delta: torch.Tensor, a: torch.Tensor) -> Gradients:
        alpha, product = self.node._saved_alpha, _product(self.w, delta, a)
        return {2: product if alpha == 1 else product * alpha}


class _Mm(Linear):
    def saved(self, at: int) -> Saved:
        return self.node._saved_self, self.node._saved_mat2

    def tangent(self, t: torch.Tensor) -> torch.Tensor:
        return t @ self.w

    def of_weight(self, delta: torch.Tensor, a: torch.Tensor) -> Gradients:
        return {1: _product(self.w, delta, a)}


class _Product(Linear):
    """Element by element."""

    def saved(self, at: int) -> Saved:
        self.at = at
        both = self.node._saved_self, self.node._saved_other
        return both if at == 0 else both[::-1]

    def tangent(self, t: torch.Tensor) -> torch.Tensor:
        return t * self.w

    def of_weight(self, delta: torch.Tensor, a: torch.Tensor) -> Gradients:
        return {1 - self.at: delta * a}


class _Quotient(Linear):
    def saved(self, at: int) -> Saved:
        return self.node._saved_self, self.node._saved_other

    def tangent(self, t: torch.Tensor) -> torch.Tensor:
        return t / self.w

    def of_weight(self, delta: torch.Tensor, a: torch.Tensor) -> Gradients:
        return {1: -delta * a / self.w.square()}


class _Prelu(Linear):
    def saved(self, at: int) -> Saved:
        return self.node._saved_self, self.node._saved_weight

    def tangent(self, t: torch.Tensor) -> torch.Tensor:
        return torch.where(self.a > 0, t, t * self.w)

    def of_weight(self, delta: torch.Tensor, a: torch.Tensor) -> Gradients:
        return {1: torch.where(self.a > 0, 0, delta * a)}


class _BatchNorm(Linear):
    """With running statistics: W a + b for W = weight / deviation, and a the input less the mean."""

    def saved(self, at: int) -> Saved:
        n = self.node
        x, weight = n._saved_input, n._saved_weight
        mean, variance = (_per_channel(v.to(x.dtype), x) for v in (n._saved_running_mean, n._saved_running_var))
        self.scale = (variance + n._saved_eps).rsqrt()
        return x.detach() - mean, self.scale if weight is None else self.scale * _per_channel(weight, x)

    def tangent(self, t: torch.Tensor) -> torch.Tensor:
        return (t * self.w).to(t.dtype)

    def of_weight(self, delta: torch.Tensor, a: torch.Tensor) -> Gradients:
        return {1: (delta * a * self.scale).sum([d for d in range(a.dim()) if d != 1])}


def _per_channel(v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return v.reshape(1, -1, *[1] * (x.dim() - 2))


def _product(w: torch.Tensor, delta: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """a^T delta, laid out as the weight, which is most often a transposed one: its gradient needs no copy then."""
    return (delta.mT @ a).mT if w.stride(0) == 1 and w.dim() == 2 else a.mT @ delta


LINEAR = {
    "ConvolutionBackward0": _Convolution,
    "AddmmBackward0": _Addmm,
    "MmBackward0": _Mm,
    "BmmBackward0": _Mm,
    "MulBackward0": _Product,
    "DivBackward0": _Quotient,
    "PreluKernelBackward0": _Prelu,
    "NativeBatchNormBackward0": _BatchNorm,
}
