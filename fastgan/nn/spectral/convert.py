"""An existing model's spectral norms, torch's old one and its parametrization, become fastgan's."""

import warnings
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrize, remove_spectral_norm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm as OldSpectralNorm
from torch.nn.utils.spectral_norm import SpectralNormLoadStateDictPreHook

from fastgan.nn.spectral.parametrization import SpectralNorm
from fastgan.nn.spectral.parametrized_class import complete_class


def convert_spectral_norm(model: nn.Module) -> nn.Module:
    """Swap torch's spectral norms in the model for fastgan's, in place, and return the model.

    Weights (the parameters themselves, so that optimisers go on), u, v, n_power_iterations, eps and dim stay; nothing
    iterates, and no random number is drawn. Both torch.nn.utils.parametrizations.spectral_norm and the older
    torch.nn.utils.spectral_norm are converted; the state_dict has the names of the former afterwards. Evaluation gives
    the same numbers. In training so does the former; the latter iterates v before u, half an iteration apart.
    `load_spectral_norm_state` reads checkpoints with the names from before.

    The older one stays on an nn.LSTM, nn.GRU or nn.RNN, which would not see a parametrization.

    Warns when the model has no such spectral norm. Spectral norms that a project wrote itself (BigGAN's layers, a
    wrapper with weight_bar) are not found: build the model with fastgan's layers instead, and load its checkpoint.
    """
    if not any(has_spectral_norm(module) for module in model.modules()):
        warnings.warn(
            "convert_spectral_norm found no spectral norm of torch's in the model and changed nothing; if the model's"
            " authors wrote their own, build the model with the SN layers of fastgan.nn and load its checkpoint with"
            " fastgan.nn.load_spectral_norm_state",
            stacklevel=2,
        )
    for module in list(model.modules()):
        convert_layer(module)
    return model


def convert_layer(module: nn.Module) -> None:
    """The spectral norms of this one module."""
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, OldSpectralNorm) and not isinstance(module, nn.RNNBase):
            _convert_old(module, hook)
    if parametrize.is_parametrized(module):
        _convert_parametrizations(module)


def has_spectral_norm(module: nn.Module) -> bool:
    """Whether the weight of this module has torch's spectral norm, old or new, or fastgan's."""
    old = any(isinstance(hook, OldSpectralNorm) for hook in module._forward_pre_hooks.values())
    new = (
        [p for of in cast(Any, module.parametrizations).values() for p in of]
        if parametrize.is_parametrized(module)
        else ()
    )
    return old or any(isinstance(p, (_SpectralNorm, SpectralNorm)) for p in new)


def _convert_parametrizations(module):
    converted = False
    for parametrizations in module.parametrizations.values():
        for i, theirs in enumerate(parametrizations):
            if isinstance(theirs, _SpectralNorm):
                iterations = getattr(theirs, "n_power_iterations", 1)  # not set where the weight has one dimension
                ours = _with_vectors(iterations, theirs, getattr(theirs, "_u", None), getattr(theirs, "_v", None))
                parametrizations[i] = ours.train(theirs.training)
                converted = True
    if converted:
        complete_class(module)


def _convert_old(module, hook):
    weight, u, v = (getattr(module, hook.name + suffix) for suffix in ("_orig", "_u", "_v"))
    u, v = u.clone(), v.clone()
    remove_spectral_norm(module, hook.name)  # leaves the normalised weight as a new parameter
    _remove_load_hook(module, hook)
    setattr(module, hook.name, weight)
    ours = _with_vectors(hook.n_power_iterations, hook, u, v)
    # unsafe: without the trial run, which would iterate; what it would check holds for every SpectralNorm
    parametrize.register_parametrization(module, hook.name, ours, unsafe=True)
    module.parametrizations[hook.name].unsafe = False
    complete_class(module)


def _remove_load_hook(module, hook):
    """remove_spectral_norm leaves it behind: torch wraps load hooks, and looks for them by the type inside."""
    hooks = module._load_state_dict_pre_hooks
    for key, wrapped in list(hooks.items()):
        load_hook = getattr(wrapped, "hook", wrapped)
        if isinstance(load_hook, SpectralNormLoadStateDictPreHook) and load_hook.fn.name == hook.name:
            del hooks[key]


def _with_vectors(n_power_iterations, settings, u, v):
    """A SpectralNorm with these u and v, whatever the weight; None: for a weight of one dimension."""
    norm = SpectralNorm(torch.empty(0), n_power_iterations, dim=0, eps=settings.eps)
    norm.dim = settings.dim
    if u is not None:
        norm.register_buffer("_u", u)
        norm.register_buffer("_v", v)
    return norm
