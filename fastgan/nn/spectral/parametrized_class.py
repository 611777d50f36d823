"""The class of a parametrised module: its copies, its pickles, and its weight for readers outside of a forward.

parametrize.register_parametrization gives a module a class of its own, with the parametrised tensor as a property of
that class. No pickle can name this class, so torch forbids pickling; and torch's deepcopy shares it, so that
remove_parametrizations on the copy takes the property away from the original as well.
"""

from functools import wraps
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastgan.nn.spectral.computed_weight import ComputedWeight, forward, is_plain_reading


def complete_class(module: Any) -> Any:
    """Let a parametrised module be pickled, copied and initialised like any other. Returns the module."""
    own_class: Any = type(module)
    for method in ("__getstate__", "__deepcopy__"):  # the two that parametrize puts there
        if method in vars(own_class):
            delattr(own_class, method)
    own_class.__reduce_ex__ = _reduce_ex
    if getattr(module, "sparse", False):
        module.sparse = False  # of an embedding: the gradient of a computed weight is dense
    if "forward" not in vars(own_class):
        own_class.forward = _forward_of(own_class)
    for name in module.parametrizations:
        read = vars(own_class)[name]
        if not isinstance(read, _Weight):
            setattr(own_class, name, _Weight(name, read))
    return module


class _Weight(property):
    """The property of a parametrised tensor; outside of a forward its value takes writes (ComputedWeight)."""

    def __init__(self, name, computed):
        compute = computed.fget

        def read(module):
            value = compute(module)
            if forward.running or is_plain_reading() or parametrize._cache_enabled:
                return value
            parametrizations = module.parametrizations[name]
            return ComputedWeight.of(value, parametrizations) if _settles(parametrizations) else value

        def write(module, value):
            computed.fset(module, value)
            parametrizations = module.parametrizations[name]
            if _settles(parametrizations):
                parametrizations[0].settle(parametrizations.original)

        super().__init__(read, write)


def _settles(parametrizations):
    return len(parametrizations) == 1 and hasattr(parametrizations[0], "settle")


def _forward_of(own_class):
    base_forward = own_class.forward

    @wraps(base_forward)
    def forward_with_plain_weights(module, *args, **kwargs):
        if torch.compiler.is_compiling():
            return base_forward(module, *args, **kwargs)
        before, forward.running = forward.running, True
        try:
            return base_forward(module, *args, **kwargs)
        finally:
            forward.running = before

    return forward_with_plain_weights


def _reduce_ex(module, protocol):
    own_class: Any = type(module)
    state = super(own_class, module).__reduce_ex__(protocol)[2:]
    return _empty, (parametrize.type_before_parametrizations(module), tuple(module.parametrizations)), *state


def _empty(original_class, names):
    """A module of original_class with these names parametrised, ready to take its state."""
    module = original_class.__new__(original_class)
    nn.Module.__init__(module)
    for name in names:
        module.register_buffer(name, torch.empty(0))
        parametrize.register_parametrization(module, name, nn.Identity(), unsafe=True)
    return complete_class(module)
