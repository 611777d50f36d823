"""The gradients of a map's parameters from delta, the cotangent of its output, and a, what stands for its input.

A weight's gradient is linear in both, and a is l'_i a_i + t_i. A summand (a bias) takes l'_i delta_i alone.
"""

import math
from typing import Any

import torch

from fastgan.penalties.four_passes.linear import LINEAR
from fastgan.penalties.four_passes.nodes import JOINT
from fastgan.penalties.four_passes.tangents import WRITTEN_OUT, Tangents, tangents, transposed

PRODUCTS = ("AddmmBackward0", "MmBackward0", "BmmBackward0")


class Map:
    """A node of the critic's graph that is linear in x and has parameters, or what depends on them, beside it.

    at: the position of x among the node's tensors. parameters: {position: (edge, shape, dtype)} of those that want a
    gradient.
    """

    def __init__(self, node: Any, name: str, at: int, parameters: dict[int, tuple]):
        self.node, self.name, self.at, self.parameters = node, name, at, parameters
        self.weights = name in LINEAR and not set(parameters).isdisjoint(WEIGHTS[name])
        self.delta: torch.Tensor | None = None

    def work(self, inputs: tuple[int, ...], output: tuple[int, ...]) -> int:
        """Products of numbers in one pass, from the shapes of the input and the output; none for a gain or a bias."""
        if self.name == "ConvolutionBackward0":
            if 1 not in self.parameters:  # frozen; to read the weight itself may recompute a checkpointed forward
                return 0
            weight = self.parameters[1][1]
            return math.prod(inputs if self.node._saved_transposed else output) * math.prod(weight[1:])
        return math.prod(output) * inputs[-1] if self.name in PRODUCTS else 0

    def keep(self, delta: torch.Tensor | None, x_gradient: torch.Tensor | None) -> None:
        """What the data pass found at the node: the cotangent of its output, and that of x, which is of more use for an
        activation with a bias."""
        self.delta = x_gradient if self.name == "bias_act" else delta

    def finish(self, given: Tangents, per_sample: torch.Tensor | None) -> tuple[list[tuple], Tangents]:
        """([(edge, gradient)], {output: tangent}). given: {position: tangent}. per_sample: l'; None for zero."""
        delta, self.delta = self.delta, None
        tangent = given.get(self.at)
        found: dict[int, torch.Tensor] = {}
        if self.name in LINEAR:
            linear = LINEAR[self.name](self.node, self.at)
            if self.weights and delta is not None and not (tangent is None and per_sample is None):
                found |= linear.of_weight(delta, weighted(linear.a, per_sample, tangent))
            moved = {} if tangent is None else {0: linear.tangent(tangent)}
        elif self.name in JOINT and self.name not in WRITTEN_OUT and delta is not None:
            seed = torch.zeros_like(delta) if per_sample is None else delta * rows(per_sample, delta)
            moved, made = transposed(self.node, given, [seed])  # one call: a checkpointed forward is unpacked once
            if per_sample is not None:
                found = {p: g.detach() for p, g in enumerate(made) if p in self.parameters and g is not None}
        else:
            moved = tangents(self.node, self.name, given)
        if delta is not None and per_sample is not None and len(found) < len(self.parameters):
            found |= self._summands(delta, per_sample)
        return self.fitted(found), moved

    def fitted(self, found: dict[int, torch.Tensor]) -> list[tuple]:
        """[(edge, gradient)] of the parameters among {position: gradient}, in their shapes and dtypes."""
        return [
            (edge, _fit(found[p], shape, dtype)) for p, (edge, shape, dtype) in self.parameters.items() if p in found
        ]

    def _summands(self, delta: torch.Tensor, per_sample: torch.Tensor) -> dict[int, torch.Tensor]:
        if self.name in ("ConvolutionBackward0", "NativeBatchNormBackward0"):
            return {2: channels(delta, 1, per_sample)}
        if self.name == "AddmmBackward0":
            ((_, shape, _),) = (self.parameters[0],)
            of_sum = channels(delta, 1, per_sample) if shape == delta.shape[1:] else delta * rows(per_sample, delta)
            return {0: of_sum * self.node._saved_beta}
        if self.name == "bias_act":
            return {1: channels(delta, self.node.setting[0], per_sample)}
        gradients = self.node(delta * rows(per_sample, delta))
        gradients = gradients if isinstance(gradients, tuple) else (gradients,)
        return {p: gradients[p] for p in self.parameters}


def _fit(gradient: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """The gradient of a parameter that was broadcast."""
    gradient = gradient if gradient.shape == shape else gradient.sum_to_size(shape)
    return gradient if gradient.dtype == dtype else gradient.to(dtype)


def rows(per_sample: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """One number a sample -> (rows, 1, ...), to multiply x (rows, ...), whose samples have as many rows each."""
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


def weighted(a: torch.Tensor, per_sample: torch.Tensor | None, tangent: Any) -> torch.Tensor:
    """l'_i a_i + t_i"""
    if per_sample is None:
        return tangent
    if tangent is None:
        return a * rows(per_sample, a)
    return torch.addcmul(tangent.to(a.dtype), a, rows(per_sample, a))


WEIGHTS = {
    "ConvolutionBackward0": (1,),
    "AddmmBackward0": (2,),
    "MmBackward0": (1,),
    "BmmBackward0": (1,),
    "MulBackward0": (0, 1),
    "DivBackward0": (1,),
    "PreluKernelBackward0": (1,),
    "NativeBatchNormBackward0": (1,),
}
