"""An existing model on fastgan's layers, in one call."""

from dataclasses import dataclass, field

import torch
from torch import nn

from fastgan.nn.norms import OF_TORCH as NORMS
from fastgan.nn.self_attention import SelfAttention2d
from fastgan.nn.spectral.convert import convert_layer, has_spectral_norm
from fastgan.nn.spectral.fuse import fuse_spectral_norm
from fastgan.nn.spectral.parametrization import SpectralNorm

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Softplus)


@dataclass
class Conversion:
    """What convert did: name of a module -> words. str() gives a line for each."""

    changed: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"changed  {name or 'the model'}: {what}" for name, what in self.changed.items()]
        return "\n".join(lines + [f"left     {name or 'the model'}: {why}" for name, why in self.left.items()])


def convert(model: nn.Module) -> Conversion:
    """Put the model, in place, on fastgan's layers. Returns a Conversion: what changed, what was left and why.

    Changed:
        torch's spectral norms, old and new, as by `convert_spectral_norm`; then one op per forward for all of them;
        torch.nn's GroupNorm, LayerNorm, InstanceNorm1d/2d/3d, BatchNorm1d/2d/3d;
        attention blocks with BigGAN's names (theta, phi, g, o, gamma) that give SelfAttention2d's numbers on a random
        input.
    Parameters and buffers stay the same tensors, so that optimisers go on. The names in the state_dict stay, except
    those of torch's older spectral norm. Numbers stay to rounding. Norms keep the dtype of half-precision x. torch's
    norms return float32 under autocast.

    Left:
        subclasses of these layers: their forward may be another;
        activations: they have no bias to join (`BiasAct` takes both when the model is built). An activation with
        inplace=True also changes its input, which a residual block's shortcut may read; a BiasAct does not.
    """
    done = Conversion()
    for name, module in list(model.named_modules()):
        if has_spectral_norm(module):
            convert_layer(module)
            done.changed[name] = "spectral norm"
        kind = type(module)
        if kind in NORMS:
            module.__class__ = NORMS[kind]
            done.changed[name] = kind.__name__
        elif isinstance(module, tuple(NORMS)) and kind not in NORMS.values():
            done.left[name] = f"{kind.__name__} is a subclass, and its forward may be another"
        elif isinstance(module, ACTIVATIONS):
            in_place = getattr(module, "inplace", False)
            done.left[name] = (
                f"{kind.__name__}(inplace=True) writes into its input, which may have other readers"
                if in_place
                else f"{kind.__name__} has no bias to join"
            )
        elif _looks_like_attention(module):
            _convert_attention(model, name, module, done)
    if any(isinstance(module, SpectralNorm) for module in model.modules()):
        fuse_spectral_norm(model)
    return done


def _looks_like_attention(module):
    names = {"theta", "phi", "g", "o"}
    convolutions = [child for name, child in module.named_children() if name in names]
    return (
        not isinstance(module, SelfAttention2d)
        and {name for name, _ in module.named_children()} == names
        and all(isinstance(child, nn.Conv2d) and child.kernel_size == (1, 1) for child in convolutions)
        and [name for name, _ in module.named_parameters(recurse=False)] == ["gamma"]
        and module.gamma.numel() == 1
        and not list(module.named_buffers(recurse=False))
    )


def _convert_attention(model, name, module, done):
    with torch.device("meta"):  # no random number is drawn: all parts are theirs
        ours = SelfAttention2d(
            module.theta.in_channels,
            qk_channels=module.theta.out_channels,
            v_channels=module.g.out_channels,
            spectral_norm=False,
        )
    for part in ("theta", "phi", "g", "o", "gamma"):
        setattr(ours, part, getattr(module, part))
    ours.train(module.training)
    if not name or not _same_function(module, ours):
        done.left[name] = f"{type(module).__name__} is not the function of SelfAttention2d"
        return
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, ours)
    done.changed[name] = f"{type(module).__name__} to SelfAttention2d"


@torch.no_grad()
def _same_function(theirs, ours):
    """On a random input, in evaluation mode, with a gamma and logits that let the attention be seen."""
    weight = next(theirs.theta.parameters())  # of this dtype and device; reading theta.weight would iterate
    gamma, training = theirs.gamma.clone(), theirs.training
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, theirs.theta.in_channels, 6, 6, generator=generator).to(weight)
    theirs.eval(), ours.eval()
    theirs.gamma.fill_(1)
    try:
        logits = ours.theta(x).flatten(2).mT @ ours.phi(x).flatten(2)
        x = x * (2 / logits.std()).sqrt()
        a, b = theirs(x), ours(x)
        return isinstance(a, torch.Tensor) and a.shape == b.shape and ((a - b).norm() <= 1e-3 * (b - x).norm()).item()
    except Exception:  # a forward with other arguments
        return False
    finally:
        theirs.gamma.copy_(gamma)
        theirs.train(training), ours.train(training)
