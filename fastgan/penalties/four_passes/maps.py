"""The gradients of a map's parameters from delta, the cotangent of the output, and a, which takes the input's place.

A weight's gradient is linear in both, and a is l'_i a_i + t_i. A summand (a bias) takes l'_i delta_i alone.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

PRODUCTS = ("AddmmBackward0", "MmBackward0", "BmmBackward0")


class Map:
    """A node of the critic's graph that is linear in x and has parameters, or what depends on them, beside it.

    at: the position of x among the node's tensors. parameters: {position: (edge, shape, dtype)} of those that want a
    gradient. gradients(weighted, delta, a) -> {position: gradient}.
    """

    def __init__(self, node: Any, name: str, at: int, parameters: dict[int, Any]) -> None:
        self.node, self.name, self.at, self.parameters = node, name, at, parameters
        self.weights = {p for p in parameters if p in WEIGHTS.get(name, ())}

    def work(self, inputs: Sequence[int], output: Sequence[int]) -> int:
        """Products of numbers in one pass, from the shapes of the input and the output; none for a gain or a bias."""
        if self.name == "ConvolutionBackward0":
            weight, transposed = self.node._saved_weight.shape, self.node._saved_transposed
            return math.prod(inputs if transposed else output) * math.prod(weight[1:])
        return math.prod(output) * inputs[-1] if self.name in PRODUCTS else 0

    def input(self) -> torch.Tensor | None:
        """The input of the map if the gradient of a weight needs it, else None."""
        if not self.weights:
            return None
        if self.name == "MulBackward0":
            return (self.node._saved_self if self.at == 0 else self.node._saved_other).detach()
        return getattr(self.node, INPUT[self.name]).detach()

    def gradients(
        self, delta: Any, x_gradient: Any, per_sample: torch.Tensor | None, a: torch.Tensor | None
    ) -> list[tuple[Any, torch.Tensor]]:
        """[(edge, gradient)]. x_gradient: the node's gradient with respect to x. per_sample: l', or None for zero."""
        found: dict[int, torch.Tensor] = {}
        if self.weights:
            found |= WEIGHT_GRADIENTS[self.name](self, delta, a)
        if per_sample is not None and len(found) < len(self.parameters):
            found |= self._summands(delta, x_gradient, per_sample)
        return [
            (edge, _fit(found[p], shape, dtype)) for p, (edge, shape, dtype) in self.parameters.items() if p in found
        ]

    def _summands(self, delta, x_gradient, per_sample):
        if self.name == "ConvolutionBackward0":
            return {2: channels(delta, 1, per_sample)}
        if self.name == "AddmmBackward0":
            ((_, shape, _),) = (self.parameters[0],)
            of_sum = channels(delta, 1, per_sample) if shape == delta.shape[1:] else delta * rows(per_sample, delta)
            return {0: of_sum * self.node._saved_beta}
        if self.name == "bias_act":
            return {1: channels(x_gradient, self.node.setting[0], per_sample)}
        with torch.no_grad():
            gradients = self.node(delta * rows(per_sample, delta))
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        return {p: gradients[p] for p in self.parameters}

    def again(self, t: torch.Tensor) -> torch.Tensor:
        """The map of a tangent t, without its bias: for a convolution, which torch differentiates wastefully."""
        return torch.ops.aten.convolution(t, self.node._saved_weight.detach(), None, *_setting(self.node))


def _fit(gradient, shape, dtype):
    """The gradient of a parameter that was broadcast."""
    gradient = gradient if gradient.shape == shape else gradient.sum_to_size(shape)
    return gradient if gradient.dtype == dtype else gradient.to(dtype)


def rows(per_sample: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """One number a sample -> (rows, 1, ...), to multiply x (rows, ...). Every sample has as many rows of x."""
    repeated = x.shape[0] // per_sample.shape[0]
    each = per_sample if repeated == 1 else per_sample.repeat_interleave(repeated)
    each = each if each.dtype == x.dtype else each.to(x.dtype)
    return each[:, None] if x.dim() == 2 else each.reshape(-1, *[1] * (x.dim() - 1))


def channels(delta: torch.Tensor, dim: int, per_sample: torch.Tensor) -> torch.Tensor:
    """sum_i l'_i delta_i over everything but dim, in float32 at the least. dim is not that of the samples, but for a
    delta of one dimension."""
    short = delta.dim() == 2 and dim == 1 and delta.shape[0] == per_sample.shape[0]
    if short and delta.dtype == per_sample.dtype and delta.dtype.itemsize >= 4:
        return per_sample @ delta
    others = [d for d in range(1, delta.dim()) if d != dim]
    dtype = torch.promote_types(delta.dtype, torch.float32)
    summed = delta.sum(others, dtype=dtype) if others else delta.to(dtype)
    repeated = delta.shape[0] // per_sample.shape[0]
    each = (per_sample if repeated == 1 else per_sample.repeat_interleave(repeated)).to(dtype)
    return each @ summed if dim else each * summed


def _setting(node):
    """What torch.ops.aten.convolution takes after the bias."""
    return (
        node._saved_stride,
        node._saved_padding,
        node._saved_dilation,
        node._saved_transposed,
        node._saved_output_padding,
        node._saved_groups,
    )


def _of_convolution(map, delta, a):
    weight = map.node._saved_weight
    given = torch.ops.aten.convolution_backward(
        delta, a, weight.detach(), None, *_setting(map.node), [False, True, False]
    )
    return {1: given[1]}


def _of_addmm(map, delta, a):
    product = _product(map.node._saved_mat2_sym_strides, delta, a)
    return {2: product if map.node._saved_alpha == 1 else product * map.node._saved_alpha}


def _of_mm(map, delta, a):
    return {1: _product(map.node._saved_mat2_sym_strides, delta, a)}


def _of_bmm(map, delta, a):
    return {1: a.mT @ delta}


def _product(strides, delta, a):
    """a^T delta, laid out as the weight, which is most often a transposed one: its gradient needs no copy then."""
    return (delta.mT @ a).mT if strides[0] == 1 else a.mT @ delta


def _of_mul(map, delta, a):
    return {1 - map.at: delta * a}


def _of_prelu(map, delta, a):
    return {1: torch.where(map.node._saved_self > 0, 0, delta * a)}


INPUT = {
    "ConvolutionBackward0": "_saved_input",
    "AddmmBackward0": "_saved_mat1",
    "MmBackward0": "_saved_self",
    "BmmBackward0": "_saved_self",
    "PreluKernelBackward0": "_saved_self",
}
WEIGHTS = {
    "ConvolutionBackward0": (1,),
    "AddmmBackward0": (2,),
    "MmBackward0": (1,),
    "BmmBackward0": (1,),
    "PreluKernelBackward0": (1,),
    "MulBackward0": (0, 1),
}
WEIGHT_GRADIENTS = {
    "ConvolutionBackward0": _of_convolution,
    "AddmmBackward0": _of_addmm,
    "MmBackward0": _of_mm,
    "BmmBackward0": _of_bmm,
    "PreluKernelBackward0": _of_prelu,
    "MulBackward0": _of_mul,
}
