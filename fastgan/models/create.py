"""Models by name."""

import inspect
from collections.abc import Callable
from typing import Any, cast

from torch import nn

from fastgan import own_code
from fastgan.models.biggan import biggan
from fastgan.models.dcgan import dcgan
from fastgan.models.mlp import mlp
from fastgan.models.pair import Pair
from fastgan.models.parts.layers import SpectralNorm
from fastgan.models.pix2pix import pix2pix
from fastgan.models.progressive import progressive
from fastgan.models.r3gan import r3gan
from fastgan.models.sagan import sagan
from fastgan.models.sngan import sngan
from fastgan.models.two_stage import two_stage
from fastgan.models.wgan_gp import wgan_gp
from fastgan.nn import fuse_spectral_norm

MODELS: dict[str, Callable[..., Pair]] = {
    "dcgan": dcgan,
    "sngan": sngan,
    "sagan": sagan,
    "mlp": mlp,
    "biggan": biggan,
    "progressive": progressive,
    "r3gan": r3gan,
    "two_stage": two_stage,
    "pix2pix": pix2pix,
    "wgan_gp": wgan_gp,
}


def names() -> tuple[str, ...]:
    """The names of fastgan's own architectures."""
    return tuple(MODELS)


def maker(name: str) -> Callable[..., Pair]:
    """The function that makes the pair of this name: one of names(), the "module:function" of code of your own, which
    is imported, or an entry point of the group fastgan.models. Errors: ValueError, TypeError."""
    if name in MODELS:
        return MODELS[name]
    return own_code.find(name, "fastgan.models", f"model must be one of {', '.join(MODELS)}, or module:function")


def options(name: str) -> tuple[str, ...]:
    """The names of the arguments that `create(name, ...)` takes."""
    return tuple(inspect.signature(maker(name)).parameters)


def create(
    name: str,
    *,
    channels: int | None = None,
    resolution: int | None = None,
    classes: int | None = None,
    z_dim: int | None = None,
    width: int | None = None,
    spectral_norm: SpectralNorm | None = None,
    pack: int = 1,
    **others: Any,
) -> Pair:
    """The Pair of this name. torch's global generator draws the initial weights.

    channels, resolution: of the images.
    classes: number of classes of a class-conditional pair. None: the pair takes no labels.
    z_dim, width, spectral_norm: None is the architecture's default, see its file.
    pack: samples that the discriminator judges at once: x (B, pack * channels, ...), labels (B, pack). Only its first
        layer and the labels' embedding are larger.
    others: further options of the architecture, see its file.
    name: one of names(), or the "module:function" of a function of your own that returns (generator, discriminator);
        it is given those of the options above that it has as parameters.
    generator.created_as holds these arguments, if all are plain values, so that a run's folder can name them.
    One op per forward computes all spectral norms of a network (fuse_spectral_norm).
    Errors: ValueError for an unknown name or option, or a value that is not allowed.
    """
    make = maker(name)
    sizes = {"channels": channels, "classes": classes, "z_dim": z_dim, "width": width, "pack": pack}
    for argument, size in sizes.items():
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ValueError(f"{argument} must be a positive integer, got {size!r}")
    given: dict[str, Any] = {**sizes, "resolution": resolution, "spectral_norm": spectral_norm}
    chosen = {k: v for k, v in given.items() if v is not None} | others
    known = options(name)
    if pack == 1 and "pack" not in known:
        del chosen["pack"]
    if unknown := sorted(chosen.keys() - set(known)):
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(known)}")
    made = make(**chosen)
    if name not in MODELS:
        _check_own(made, name)
    pair = Pair(*(fuse_spectral_norm(network) for network in made))
    if all(isinstance(value, (str, int, float, bool, list, tuple)) for value in chosen.values()):
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()}
        cast(Any, pair.generator).created_as = {"name": name, **plain}
    return pair


def _check_own(made, name):
    """Errors: TypeError that says what networks of the user's own lack."""
    modules = isinstance(made, (tuple, list)) and [isinstance(network, nn.Module) for network in made]
    if modules != [True, True]:
        got = f"({', '.join(type(n).__name__ for n in made)})" if isinstance(modules, list) else type(made).__name__
        raise TypeError(f"{name} must return a pair of torch.nn.Modules, (generator, discriminator); got {got}")
    z_dim = getattr(made[0], "z_dim", None)
    if not isinstance(z_dim, int) or isinstance(z_dim, bool):
        raise TypeError(
            f"the generator of {name} must have an attribute z_dim, an int: it is called with z ~ N(0, I) of shape"
            f" (batch, z_dim); got {z_dim!r}: set self.z_dim in its __init__"
        )
