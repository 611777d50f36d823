"""Extractors by name."""

import torch
from torch import nn

from fastgan import own_code
from fastgan.metrics.features.extractor import Extractor
from fastgan.metrics.features.fashion_cnn import fashion_cnn
from fastgan.metrics.features.inception import inception
from fastgan.metrics.features.pretrained import pretrained

CHOICES = "fashion-cnn, inception:FILE, torchvision:NAME or module:function"


def extractor(name: str, *, device: torch.device | str = "cpu") -> Extractor:
    """The Extractor that a text names.

    fashion-cnn        the classifier of garments, trained at its first use
    inception:FILE     Inception-v3 with the weights that torch-fidelity converted
    torchvision:NAME   a classifier of torchvision, as torchvision:resnet50, if its weights are on the disk
    module:function    what a Python function of your own returns, called without arguments: an Extractor, or a network
                       that takes images in [-1, 1] and returns features. The module is imported, so its code runs.
    Nothing is downloaded. Errors: ValueError, TypeError, FileNotFoundError, with what to do.
    """
    kind, colon, rest = name.partition(":")
    if name == "fashion-cnn":
        return fashion_cnn(device=device)
    if (colon and not rest) or not colon:
        raise ValueError(f"extractor must be {CHOICES}; got {name!r}")
    if kind == "inception":
        return inception(rest, device=device)
    if kind == "torchvision":
        return pretrained(rest, device=device)
    return _own(name, device)


def is_own(name: str | None) -> bool:
    """Whether the name is "module:function": code of the user's own."""
    return ":" in (name or "") and str(name).partition(":")[0] not in ("inception", "torchvision")


def _own(name, device):
    made = own_code.call(name, "fastgan.extractors", f"extractor must be {CHOICES}", "an Extractor or a network")
    if isinstance(made, Extractor):
        return made
    if not isinstance(made, nn.Module):
        raise TypeError(f"{name} must return an Extractor or a torch.nn.Module, got {type(made).__name__}")
    return Extractor(made, name, device=device)
