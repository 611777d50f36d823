"""Images from a generator."""

import torch

from fastgan import randomness
from fastgan.nn.modes import evaluation_mode

BATCH = 256


def generate(generator, z, condition=None):
    return generator(z) if condition is None else generator(z, condition)


def latents(generator, count, seed, purpose, position=0, device="cpu"):
    """z ~ N(0, I), (count, z_dim)"""
    source = randomness.generator(seed, purpose, position, device)
    return torch.randn(count, generator.z_dim, generator=source, device=device)


def labels_in_turn(generator, count, device="cpu"):
    """0, 1, 2, ..., one for each sample; None for a generator without classes."""
    classes = getattr(generator, "classes", None)
    return torch.arange(count, device=device) % classes if classes else None


def conditions(generator, data, count, device="cpu"):
    """What `count` samples are conditioned on: labels in turn, the first source images of paired data, or None."""
    if takes_source(generator):
        return data.batch(torch.arange(count) % len(data))[1].to(device)
    return labels_in_turn(generator, count, device)


def takes_source(generator):
    """Whether it translates a source image: it then has no latent dimensions."""
    return generator.z_dim == 0


@torch.no_grad()
def sample(generator, z, labels=None):
    """generator(z) in evaluation mode and in batches; the generator's mode is as it was afterwards."""
    parts = z.split(BATCH) if labels is None else zip(z.split(BATCH), labels.split(BATCH), strict=True)
    with evaluation_mode(generator):
        return torch.cat([generate(generator, *(part if labels is not None else (part,))) for part in parts])
