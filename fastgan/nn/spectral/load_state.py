"""Checkpoints of spectrally normalised models, whatever their author called u and v."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from fastgan.nn.spectral.parametrization import SpectralNorm, as_matrix

# (weight, u, v, buffers without a use here) in the layer's part of the state_dict. Without v it is computed from u.
SCHEMES = (
    ("{name}_orig", "{name}_u", "{name}_v", ()),  # torch.nn.utils.spectral_norm
    ("{name}_bar", "{name}_u", "{name}_v", ()),  # a wrapper around the layer, as in many SAGAN repositories
    ("w_bar", "u", "v", ()),
    ("{name}", "u0", None, ("sv0",)),  # BigGAN
    ("{name}", "sn_u", None, ("sn_sigma",)),  # mimicry
)
WRAPPED = "module."  # such a wrapper keeps the layer under this name
WHOLE = ("module.", "_orig_mod.")  # DataParallel and DistributedDataParallel, torch.compile: before every key


def load_spectral_norm_state(
    model: nn.Module, state_dict: Mapping[str, torch.Tensor], strict: bool = True
) -> NamedTuple:
    """Load a checkpoint in any of six namings into a model with fastgan's spectral norm (or torch's parametrization).

    Layer by layer, the unnormalised weight and the vectors are read from whichever is there:
        parametrizations.weight.original, parametrizations.weight.0._u, ._v    torch's parametrization, and fastgan
        weight_orig, weight_u, weight_v                                        torch.nn.utils.spectral_norm
        weight_bar, weight_u, weight_v    w_bar, u, v                          wrappers (also below `module.`)
        weight, u0, sv0                                                        BigGAN
        weight, sn_u, sn_sigma                                                 mimicry
    The last two have no v: it is computed as W^T u / |W^T u|. Vectors may have any shape with as many elements.
    The first checkpoints of torch.nn.utils.spectral_norm (weight_orig, weight_u, and weight for weight_v) are read too.
    A prefix of all keys, "module." of a data-parallel model or "_orig_mod." of a compiled one, is taken off.
    All other keys are loaded as they are. Returns what model.load_state_dict returns, and raises as it does:
    RuntimeError for missing keys, unexpected keys and shapes that differ, under the names of the parametrization.
    """
    translated: Any = OrderedDict(state_dict)
    versions = getattr(state_dict, "_metadata", None)  # of the other layers, for load_state_dict
    if versions is not None:
        translated._metadata = versions.copy()
    for prefix in WHOLE:
        own = any(key.startswith(prefix) for key in model.state_dict())
        if not own and translated and all(key.startswith(prefix) for key in translated):
            consume_prefix_in_state_dict_if_present(translated, prefix)
    for path, module in model.named_modules(remove_duplicate=False):  # a shared layer has a name for each place
        if parametrize.is_parametrized(module):
            for name, parametrizations in cast(Any, module.parametrizations).items():
                for i, norm in enumerate(parametrizations):
                    if isinstance(norm, (SpectralNorm, _SpectralNorm)) and hasattr(norm, "_u"):
                        _translate_layer(translated, f"{path}." if path else "", name, i, norm)
    return model.load_state_dict(translated, strict=strict)


def _translate_layer(state, path, name, index, norm):
    for prefix in (path, path + WRAPPED):
        for scheme in SCHEMES:
            weight_key, u_key, v_key = (key and prefix + key.format(name=name) for key in scheme[:3])
            if weight_key not in state or u_key not in state:
                continue
            weight, u = state.pop(weight_key), state.pop(u_key)
            v = _right_vector(weight, u, norm) if v_key is None else state.pop(v_key, None)
            if v is None and scheme is SCHEMES[0] and prefix + name in state:
                v = _right_vector_of_sigma(weight, u, state.pop(prefix + name), norm)
            for unused in scheme[3]:
                state.pop(prefix + unused, None)
            if prefix != path:
                for key in [key for key in state if key.startswith(prefix)]:  # the bias
                    state[path + key.removeprefix(prefix)] = state.pop(key)
            new = f"{path}parametrizations.{name}."
            state[f"{new}original"] = weight
            state[f"{new}{index}._u"] = u.flatten()
            if v is not None:
                state[f"{new}{index}._v"] = v.flatten()
            return


def _right_vector(weight, u, norm):
    matrix = as_matrix(weight, norm.dim).flatten(1)
    if u.numel() != matrix.shape[0]:  # load_state_dict will say so
        return None
    return F.normalize(matrix.t() @ u.flatten(), dim=0, eps=norm.eps)


def _right_vector_of_sigma(weight, u, normalized, norm):
    """The v along W^T u with u^T W v = sigma, of torch's first checkpoints, which keep W / sigma in the place of v."""
    v = _right_vector(weight, u, norm)
    if v is None or normalized.shape != weight.shape:
        return None
    matrix = as_matrix(weight, norm.dim).flatten(1)
    sigma = weight.square().sum() / (weight * normalized).sum()
    return v * (sigma / (u.flatten() @ matrix @ v))
