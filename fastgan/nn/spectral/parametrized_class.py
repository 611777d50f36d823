"""Copies and pickles of parametrised modules.

parametrize.register_parametrization gives a module a class of its own, with the parametrised tensor as a property of
that class. No pickle can name this class, so torch forbids pickling; and torch's deepcopy shares it, so that
remove_parametrizations on the copy takes the property away from the original as well.
"""

import torch
from torch import nn
from torch.nn.utils import parametrize


def make_picklable(module):
    """Let a parametrised module be pickled, and give each copy of it a class of its own. Returns the module."""
    own_class = type(module)
    for method in ("__getstate__", "__deepcopy__"):  # the two that parametrize puts there
        if method in vars(own_class):
            delattr(own_class, method)
    own_class.__reduce_ex__ = _reduce_ex
    return module


def _reduce_ex(module, protocol):
    own_class = type(module)
    state = super(own_class, module).__reduce_ex__(protocol)[2:]
    return _empty, (parametrize.type_before_parametrizations(module), tuple(module.parametrizations)), *state


def _empty(original_class, names):
    """A module of original_class with these names parametrised, ready to take its state."""
    module = original_class.__new__(original_class)
    nn.Module.__init__(module)
    for name in names:
        module.register_buffer(name, torch.empty(0))
        parametrize.register_parametrization(module, name, nn.Identity(), unsafe=True)
    return make_picklable(module)
