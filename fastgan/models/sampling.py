"""Images from a generator."""

from typing import Any

import torch
from torch import nn

from fastgan import randomness
from fastgan.nn.modes import evaluation_mode

BATCH = 256


def generate(generator: nn.Module, z: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
    """generator(z), or generator(z, condition) if there is a condition."""
    return generator(z) if condition is None else generator(z, condition)


def latents(
    generator: nn.Module, count: int, seed: int, purpose: str, position: int = 0, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """z ~ N(0, I), (count, z_dim)"""
    source = randomness.generator(seed, purpose, position, device)
    z_dim: Any = generator.z_dim
    return torch.randn(count, z_dim, generator=source, device=device)


def labels_in_turn(generator: nn.Module, count: int, device: torch.device | str = "cpu") -> torch.Tensor | None:
    """(count,) labels 0, 1, 2, ... in turn, or None for a generator without classes."""
    classes = getattr(generator, "classes", None)
    return torch.arange(count, device=device) % classes if classes else None


def conditions(generator: nn.Module, data: Any, count: int, device: torch.device | str = "cpu") -> torch.Tensor | None:
    """The conditions of `count` samples: labels in turn, the first source images of paired data, or None."""
    if takes_source(generator):
        return data.batch(torch.arange(count) % len(data))[1].to(device)
    return labels_in_turn(generator, count, device)


def takes_source(generator: nn.Module) -> bool:
    """Whether the generator translates a source image. Such a generator has no latent dimensions."""
    return bool(generator.z_dim == 0)


@torch.no_grad()
def sample(generator: nn.Module, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
    """generator(z) in evaluation mode and in batches. The call restores the modes of the generator's modules."""
    parts = z.split(BATCH)
    given = [None] * len(parts) if labels is None else labels.split(BATCH)
    with evaluation_mode(generator):
        return torch.cat([generate(generator, *part) for part in zip(parts, given, strict=True)])
