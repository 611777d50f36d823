"""Models by name."""

import inspect

from fastgan.models.biggan import biggan
from fastgan.models.dcgan import dcgan
from fastgan.models.mlp import mlp
from fastgan.models.pair import Pair
from fastgan.models.pix2pix import pix2pix
from fastgan.models.progressive import progressive
from fastgan.models.r3gan import r3gan
from fastgan.models.sagan import sagan
from fastgan.models.sngan import sngan
from fastgan.models.two_stage import two_stage
from fastgan.models.wgan_gp import wgan_gp
from fastgan.nn import fuse_spectral_norm

MODELS = {
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


def names():
    return tuple(MODELS)


def options(name):
    """What `create(name, ...)` takes, by name."""
    return tuple(inspect.signature(MODELS[name]).parameters)


def create(
    name,
    *,
    channels=None,
    resolution=None,
    classes=None,
    z_dim=None,
    width=None,
    spectral_norm=None,
    pack=1,
    **others,
):
    """The Pair of this name, freshly initialised from torch's global generator.

    channels, resolution: of the images. classes: how many, for a class-conditional pair; None for one without labels.
    z_dim, width, spectral_norm ("none", "discriminator", "both"): None is the architecture's own choice, see its file.
    pack: samples that the discriminator judges at once: (B, pack * channels, ...), labels (B, pack). Its first layer is
        the wider one, nothing else changes but the labels' embedding.
    others: the architecture's own options, see its file.
    The generator has these arguments as `created_as`, a dict, if all are plain values: so a run's folder can name them.
    All spectral norms of a network are computed by one op per forward (fuse_spectral_norm).
    Errors: ValueError for a name, a size or an option that is not there.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}; got {name!r}")
    sizes = {"channels": channels, "classes": classes, "z_dim": z_dim, "width": width, "pack": pack}
    for argument, size in sizes.items():
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ValueError(f"{argument} must be a positive integer, got {size!r}")
    sizes = {**sizes, "resolution": resolution, "spectral_norm": spectral_norm}
    chosen = {k: v for k, v in sizes.items() if v is not None} | others
    if unknown := sorted(chosen.keys() - set(options(name))):
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(options(name))}")
    pair = Pair(*(fuse_spectral_norm(network) for network in MODELS[name](**chosen)))
    if all(isinstance(value, (str, int, float, bool, list, tuple)) for value in chosen.values()):
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in chosen.items()}
        pair.generator.created_as = {"name": name, **plain}
    return pair
