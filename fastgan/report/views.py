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
FEWEST_FRAMES = 3
SIDE = 128  # of the walk's images at most
COMPARED = 12  # samples with their nearest training image
COMPARED_SIDE = 32  # to which images are averaged before they are compared
SEARCHED = 20_000  # training images that are searched at most
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
def views(generator: nn.Module, step: int, data: Any, seed: int = 0, patience: float = 60.0) -> Views:
    """data: a data set, or a sentence that says why the page has none.

    patience: seconds, about. A slow generator's walk has fewer frames or is left out; slow data are searched in part.
    """
    device = next(generator.parameters()).device
    if sampling.takes_source(generator):
        why = "The generator translates images, so it has no latents to walk between."
        return Views(step, missing={"walk": why, "nearest": "A translated image is not compared with training images."})
    z = sampling.latents(generator, WALKS, seed, "report", device=device)
    for _ in range(2):  # the first call may set up what later calls find
        began = time.monotonic()
        shape = sampling.sample(generator, z, sampling.labels_in_turn(generator, WALKS, device)).cpu().shape[1:]
        seconds = time.monotonic() - began  # of a frame
    if len(shape) != 3 or shape[0] not in (1, 3):
        return Views(step, missing={"walk": "The run makes no images of 1 or 3 channels, so the page has no walk."})
    missing = {}
    frames = min(int(patience / 2 / (STOPS * max(seconds, 1e-6))), FRAMES)
    if frames < FEWEST_FRAMES:
        missing["walk"] = (
            f"A walk takes too long here: {WALKS} images take {seconds:.1f} s. `fastgan report` waits longer."
        )
    found = data if isinstance(data, str) else _nearest(generator, data, seed, device, patience / 2)
    if isinstance(found, str):
        missing["nearest"], found = found, None
    walk = None if "walk" in missing else _walk(generator, seed, device, frames)
    return Views(step, walk, found, _attention(generator, seed, device), missing)


def _walk(generator, seed, device, frames):
    """Each image goes round a circle of latents, along great circles: every latent is as far from 0 as its ends."""
    stops = sampling.latents(generator, WALKS * STOPS, seed, "report walk", device=device).unflatten(0, (STOPS, WALKS))
    t = torch.arange(frames, device=device)[:, None, None] / frames
    t = (1 - torch.cos(math.pi * t)) / 2  # slow at the latents, fast between them
    path = torch.cat([_great_circle(stops[i], stops[(i + 1) % STOPS], t) for i in range(STOPS)])
    labels = sampling.labels_in_turn(generator, WALKS, device)
    return torch.stack([_reduced(sampling.sample(generator, z, labels)).cpu() for z in path])


def _reduced(images):
    return images if images.shape[2] <= SIDE else F.interpolate(images, size=(SIDE, SIDE), mode="area")


def _great_circle(a, b, t):
    """From a (n, z) to b (n, z) at t (k, 1, 1): (k, n, z)."""
    cosine = F.cosine_similarity(a, b, dim=1).clamp(-0.9999, 0.9999)
    angle = torch.acos(cosine)[:, None]
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


def _nearest(generator, data, seed, device, patience):
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
        if time.monotonic() - began > patience:
            break
    real = torch.cat(searched)
    distances, at = _distances(_small(images), real).min(1)
    among = _distances(real[: 8 * COMPARED], real)
    typical = among.topk(2, 1, largest=False).values[:, 1].median()  # the nearest is the image itself
    return Nearest(images, data.batch(order[at])[0].cpu(), distances.tolist(), typical.item(), len(real))


def _small(images):
    """(N, C, H, W) -> (N, values), at most COMPARED_SIDE pixels a side."""
    height, width = (min(COMPARED_SIDE, side) for side in images.shape[2:])
    return F.adaptive_avg_pool2d(images.detach().float().cpu(), (height, width)).flatten(1)


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
        height, width = (min(POSITIONS, side) for side in weights.shape[2:])
        weights = F.adaptive_avg_pool2d(weights, (height, width)).transpose(0, 1).unflatten(1, (POSITIONS, POSITIONS))
        maps[name] = weights / weights.amax((3, 4), keepdim=True).clamp_min(1e-12)
    return Attention(images, maps)
