"""What a generator shows when the report looks at it: a walk between latents, copies of real images, attention."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.models import sampling
from fastgan.nn.attention_maps import attention_layers, attention_maps

WALKS, STOPS, FRAMES = 8, 4, 12  # images side by side; latents on the way of each; frames from one to the next
SIDE = 128  # of the walk's images at most
COMPARED = 12  # samples with their nearest training image
COMPARED_SIDE = 32  # to which images are averaged before they are compared
SEARCHED, SECONDS = 20_000, 0.7  # training images that are searched, and how long
ATTENDING, POSITIONS = 6, 16  # images with an attention map; positions a side, of queries and of keys, at most


@dataclass(frozen=True)
class Nearest:
    """images, real: (N, C, H, W) in [-1, 1]. distances: (N,), the root mean square over pixels of both at 32 pixels at
    most. typical: the median distance of a training image from the nearest other one. searched: training images."""

    images: torch.Tensor
    real: torch.Tensor
    distances: list[float]
    typical: float
    searched: int


@dataclass(frozen=True)
class Attention:
    """images: (N, C, H, W) in [-1, 1]. maps: layer -> (N, h, w, h', w'): what position (h, w) looks at, from 0 to 1."""

    images: torch.Tensor
    maps: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Views:
    """step: of the generator. walk: (frames, N, C, H, W) in [-1, 1], a circle: the last frame leads to the first."""

    step: int | None = None
    walk: torch.Tensor | None = None
    nearest: Nearest | None = None
    attention: Attention | None = None
    missing: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def views(generator: nn.Module, step: int, data: Any, seed: int = 0) -> Views:
    """data: a data set, or a sentence that says why there is none."""
    device = next(generator.parameters()).device
    first = sampling.latents(generator, 1, seed, "report", device=device)
    if sampling.takes_source(generator):
        why = "The generator translates images: it has no latents to walk between."
        return Views(step, missing={"walk": why, "nearest": "A translated image is not compared with training images."})
    labels = sampling.labels_in_turn(generator, 1, device)
    shape = sampling.sample(generator, first, labels).shape[1:]
    if len(shape) != 3 or shape[0] not in (1, 3):
        return Views(step, missing={"walk": "The run does not make images: there is no walk to show."})
    missing = {}
    nearest, found = None, data
    if not isinstance(data, str):
        found = _nearest(generator, data, seed, device)
    if isinstance(found, str):
        missing["nearest"] = found
    else:
        nearest = found
    return Views(step, _walk(generator, seed, device), nearest, _attention(generator, seed, device), missing)


def _walk(generator, seed, device):
    """Each image goes round a circle of latents, along great circles: every latent is as far from 0 as its ends."""
    stops = sampling.latents(generator, WALKS * STOPS, seed, "report walk", device=device).unflatten(0, (STOPS, WALKS))
    t = torch.arange(FRAMES, device=device)[:, None, None] / FRAMES
    t = (1 - torch.cos(math.pi * t)) / 2  # slow at the latents, fast between them
    parts = [_great_circle(stops[i], stops[(i + 1) % STOPS], t) for i in range(STOPS)]
    z = torch.cat(parts).flatten(0, 1)  # (STOPS * FRAMES * WALKS, z_dim)
    labels = sampling.labels_in_turn(generator, WALKS, device)
    labels = None if labels is None else labels.repeat(STOPS * FRAMES)
    images = sampling.sample(generator, z, labels)
    if images.shape[2] > SIDE:
        images = F.interpolate(images, size=(SIDE, SIDE), mode="area")
    return images.cpu().unflatten(0, (STOPS * FRAMES, WALKS))


def _great_circle(a, b, t):
    """From a (n, z) to b (n, z) at t (k, 1, 1): (k, n, z)."""
    cosine = F.cosine_similarity(a, b, dim=1).clamp(-0.9999, 0.9999)
    angle = torch.acos(cosine)[:, None]
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def _nearest(generator, data, seed, device):
    z = sampling.latents(generator, COMPARED, seed, "report nearest", device=device)
    images = sampling.sample(generator, z, sampling.labels_in_turn(generator, COMPARED, device)).cpu().clamp(-1, 1)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:SEARCHED]
    if len(order) <= COMPARED:
        return "The training set is too small to look for copies in it."
    began, searched = time.monotonic(), []
    for indices in order.split(512):
        samples = data.batch(indices)[0]
        if samples.shape[1:] != images.shape[1:]:
            return "The generator has not grown to the size of the training images yet."
        searched.append(_small(samples))
        if time.monotonic() - began > SECONDS:
            break
    real = torch.cat(searched)
    distances, at = _distances(_small(images), real).min(1)
    among = _distances(real[: 8 * COMPARED], real)
    typical = among.topk(2, 1, largest=False).values[:, 1].median()  # the nearest is the image itself
    return Nearest(images, data.batch(order[at])[0].cpu(), distances.tolist(), typical.item(), len(real))


def _small(images):
    """(N, C, H, W) -> (N, values), at most COMPARED_SIDE pixels a side."""
    size = [min(COMPARED_SIDE, side) for side in images.shape[2:]]
    return F.adaptive_avg_pool2d(images.detach().float().cpu(), size).flatten(1)


def _distances(x, y):
    """Root mean square differences, (n, m)."""
    return torch.cdist(x, y) / math.sqrt(x.shape[1])


def _attention(generator, seed, device):
    if not attention_layers(generator):
        return None
    z = sampling.latents(generator, ATTENDING, seed, "report attention", device=device)
    labels = sampling.labels_in_turn(generator, ATTENDING, device)
    images = sampling.sample(generator, z, labels).cpu().clamp(-1, 1)
    inputs = (z,) if labels is None else (z, labels)
    queries = [(row, column) for row in range(POSITIONS) for column in range(POSITIONS)]
    found = attention_maps(generator, queries, (POSITIONS, POSITIONS), *inputs)  # layer -> (queries, N, h', w')
    maps = {}
    for name, weights in found.items():
        weights = weights.float().cpu()
        size = [min(POSITIONS, side) for side in weights.shape[2:]]
        weights = F.adaptive_avg_pool2d(weights, size).transpose(0, 1).unflatten(1, (POSITIONS, POSITIONS))
        maps[name] = weights / weights.amax((3, 4), keepdim=True).clamp_min(1e-12)
    return Attention(images, maps)
