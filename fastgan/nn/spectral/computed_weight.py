"""A computed weight, as its readers outside of a forward get it: what they write reaches the parameter.

`nn.init.normal_(layer.weight)` and `layer.weight.data.fill_(0)` are how networks are initialised. The weight of a
normalised layer is computed, so that such a write would change a copy and nothing else. Here the copy passes it on.
"""

import threading
import warnings
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fastgan.ops._torch_private import functorch_is_active, without_subclasses

# In-place operations that ignore the value before. Nobody computes with these; they are meant for the parameter.
OVERWRITES = {"normal_", "uniform_", "fill_", "zero_", "copy_", "random_", "bernoulli_", "exponential_", "log_normal_"}
OVERWRITES |= {"cauchy_", "geometric_"}


class _Forward(threading.local):
    running = False  # of a layer with computed weights, in this thread


forward = _Forward()


def is_plain_reading() -> bool:
    """Whether a weight that is read now is used for a computation and nothing else."""
    return (
        forward.running
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch.is_inference_mode_enabled()
        or functorch_is_active()
    )


_DATA: Any = torch.Tensor.data  # the property


class ComputedWeight(torch.Tensor):
    """W / sigma, or a view of it. Operations give plain tensors; views and `.data` stay what this is.

    Three kinds of writes go on to the same elements of the parameter: every in-place operation on `.data`; the
    operations of OVERWRITES and `nn.init`; what follows these on the same tensor (an initialisation draws and scales).
    Any other in-place operation is a computation with a copy: without a graph it warns.
    """

    reading: "_Reading"

    @staticmethod
    def of(weight: torch.Tensor, parametrizations: Any) -> "ComputedWeight":
        """weight as it is handed out; parametrizations: the one list that computes it, of one SpectralNorm."""
        strides = parametrizations.original.stride()
        if weight.stride() != strides:  # of dimensions of one element, or of memory with gaps
            weight = weight.new_empty_strided(weight.shape, strides).copy_(weight)
        return _shared(weight, _Reading(parametrizations, weight.storage_offset()))

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func == _DATA.__set__:
            return args[0]._assign(args[1])
        weights = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, ComputedWeight)]
        with without_subclasses():
            versions = [weight._version for weight in weights]
            result = func(*args, **kwargs)
            for weight, version in zip(weights, versions, strict=True):
                if weight._version != version:
                    weight._written_by(func, kwargs)
            if func == _DATA.__get__:
                args[0].reading.for_writing = True
            return pytree.tree_map_only(torch.Tensor, lambda t: _share_again(t, weights), result)

    def _assign(self, value):
        self._write(value)
        with without_subclasses():
            _DATA.__set__(self, value.as_subclass(torch.Tensor))

    def _written_by(self, func, kwargs):
        of_init = getattr(func, "__module__", None) == "torch.nn.init"
        self.reading.for_writing |= of_init or func.__name__ in OVERWRITES or kwargs.get("out") is self
        if self.reading.for_writing:
            self._write(self)
        elif not (torch.is_grad_enabled() and self.requires_grad):
            warnings.warn(
                "an in-place change of a computed weight changes a copy of it; to change the parameter, assign the"
                " result (layer.weight = tensor) or write to layer.weight.data",
                stacklevel=4,
            )

    @torch.no_grad()
    def _write(self, value):
        with without_subclasses():
            parametrizations = self.reading.parametrizations
            original = parametrizations.original
            place = self.storage_offset() - self.reading.offset + original.storage_offset()
            original.detach().as_strided(self.shape, self.stride(), place).copy_(value)
            parametrizations[0].settle(original)

    def __reduce_ex__(self, protocol):
        return self.as_subclass(torch.Tensor).__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        return self.as_subclass(torch.Tensor).__deepcopy__(memo)

    def __repr__(self, **kwargs):
        return self.as_subclass(torch.Tensor).__repr__(**kwargs)


class _Reading:
    """One reading of a weight: what its tensor, and all views of it, have in common."""

    def __init__(self, parametrizations, offset):
        self.parametrizations, self.offset, self.for_writing = parametrizations, offset, False


def _shared(tensor, reading):
    tensor = tensor.as_subclass(ComputedWeight)
    tensor.reading = reading
    return tensor


def _share_again(tensor, weights):
    """The tensor, as a ComputedWeight if it lies in the memory of one of the weights."""
    if isinstance(tensor, ComputedWeight) or tensor.layout is not torch.strided:
        return tensor
    for weight in weights:
        if tensor.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr() and tensor.dtype == weight.dtype:
            return _shared(tensor, weight.reading)
    return tensor
