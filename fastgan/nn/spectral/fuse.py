"""One power-iteration op per forward of a model, in place of one per layer."""

from typing import Any, cast

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from fastgan.nn.spectral.parametrization import SpectralNorm, is_current, power_iterate


def fuse_spectral_norm(model: nn.Module) -> nn.Module:
    """Normalise all spectrally normalised weights of a model at once, as a forward of it starts. Returns the model.

    The numbers are those of the unfused model, except that a layer iterates once per forward of the model, however
    often (or never) it is used in it; a fused model inside a fused model does not iterate again. A layer that is called
    outside of a forward of the model normalises its own weight, as if unfused. The normalised weights live until the
    end of the forward; beyond that only in autograd's graph.

    The state_dict does not change. Copies and pickles of the model are fused too. Weights are grouped by dtype, device
    and settings, with one op call for each group. Layers that are added later stay on their own until the next
    fuse_spectral_norm(model). Fuse before torch.compile, and `ddp.module` rather than `ddp`.
    All gradients of the weights become available together, at the end of the backward pass: with DDP they are no longer
    reduced while it runs. Activation checkpointing: wrap the whole model, not a part of it, or leave it unfused
    (`fastgan.nn.spectral_norm` says what holds then).

    Several threads may call the model in evaluation mode. In training mode they may not, fused or unfused: u and v are
    shared, and a thread's iterations would change the weights of another's step.
    """
    unfuse_spectral_norm(model)
    fused = FusedSpectralNorm(model)
    model.register_forward_pre_hook(fused.normalize_all)
    model.register_forward_hook(fused.forget_all, always_call=True)
    return model


def unfuse_spectral_norm(model: nn.Module) -> nn.Module:
    """Undo fuse_spectral_norm. Returns the model."""
    for hooks in (model._forward_pre_hooks, model._forward_hooks):
        for key, hook in list(hooks.items()):
            if isinstance(getattr(hook, "__self__", None), FusedSpectralNorm):
                del hooks[key]
                model._forward_hooks_always_called.pop(key, None)
    return model


class FusedSpectralNorm:
    """The two hooks of a fused model: weights are handed to its layers before the forward, and taken back after it."""

    def __init__(self, model: nn.Module) -> None:
        # A norm that follows another parametrization does not read `original`: it stays with its layer.
        self.layers: list[tuple[nn.Module, str, SpectralNorm, Any]] = [
            (module, name, parametrizations[0], parametrizations)
            for module in model.modules()
            if is_parametrized(module)
            for name, parametrizations in cast(Any, module.parametrizations).items()
            if isinstance(parametrizations[0], SpectralNorm) and parametrizations.original.ndim > 1
        ]

    def normalize_all(self, model: nn.Module, inputs: Any) -> None:
        if getattr(model, "_is_replica", False):  # of DataParallel: its layers are others, and on their own
            return
        groups: dict[tuple[Any, ...], tuple[list[SpectralNorm], list[Any]]] = {}
        for module, name, norm, parametrization in self.layers:
            held: Any = module._modules.get("parametrizations")
            if held is None or held._modules.get(name) is not parametrization:  # removed since
                continue
            weight = parametrization._parameters.get("original")
            if weight is None:  # a buffer
                weight = parametrization.original
            ready = norm.ready
            if ready is None or not is_current(ready, weight):
                key = (weight.dtype, weight.device, norm.eps, norm.n_power_iterations, norm.training)
                norms, weights = groups.setdefault(key, ([], []))
                norms.append(norm)
                weights.append(weight)
        for norms, weights in groups.values():
            for norm, weight, normalized in zip(norms, weights, power_iterate(norms, weights), strict=True):
                norm.set_ready(weight, normalized)

    def forget_all(self, model: nn.Module, inputs: Any, output: Any) -> None:
        for _, _, norm, _ in self.layers:
            norm.forget_ready()
