"""Models by name."""

from fastgan.models.dcgan import dcgan
from fastgan.models.pair import Pair
from fastgan.models.sngan import sngan
from fastgan.nn import fuse_spectral_norm

MODELS = {"dcgan": dcgan, "sngan": sngan}


def names():
    return tuple(MODELS)


def create(name, *, channels, resolution, classes=None, z_dim=None, width=None, spectral_norm=None):
    """The Pair of this name, freshly initialised from torch's global generator.

    channels, resolution: of the images. classes: how many, for a class-conditional pair; None for one without labels.
    z_dim, width, spectral_norm ("none", "discriminator", "both"): None is the architecture's own choice, see its file.
    All spectral norms of a network are computed by one op per forward (fuse_spectral_norm).
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}; got {name!r}")
    sizes = {"channels": channels, "classes": classes, "z_dim": z_dim, "width": width}
    for argument, size in sizes.items():
        if size is not None and (not isinstance(size, int) or size < 1):
            raise ValueError(f"{argument} must be a positive integer, got {size!r}")
    chosen = {k: v for k, v in (*sizes.items(), ("spectral_norm", spectral_norm)) if v is not None}
    return Pair(*(fuse_spectral_norm(network) for network in MODELS[name](resolution=resolution, **chosen)))
