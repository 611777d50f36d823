"""Sliced Wasserstein distance of image patches, scale by scale: SWD of progressive GANs (Karras et al., 2018)."""

import torch

from fastgan import randomness
from fastgan.metrics.distances.sliced_wasserstein import random_directions
from fastgan.metrics.features.image_tensor import check_extent
from fastgan.metrics.images.laplacian_pyramid import laplacian_pyramid

COARSEST, BATCH = 16, 256


def patch_sliced_wasserstein(
    real: torch.Tensor,
    fake: torch.Tensor,
    *,
    patches: int = 128,
    patch: int = 7,
    directions: int = 128,
    repeats: int = 4,
    per_image_scale: float = 1e3,
    seed: int = 0,
) -> dict[int | str, float]:
    """{side in pixels: distance} for each level of the Laplacian pyramid down to 16 pixels, and their mean as "mean".

    real, fake: images (N, C, H, H) of any dtype, finite, equal N, H = 16 2^l (or any H below 32: one level). Of every
    image and level, `patches` patches of `patch` x `patch` pixels are drawn, each channel of all of a level's patches
    is brought to mean 0 and deviation 1 (each set by itself), and the mean |difference| of sorted projections is taken
    over repeats x directions lines, times `per_image_scale`. Computed in float32; memory O(N patches patch^2 C) for one
    level at a time. The sets should hold thousands of images (the paper: 16,384).
    Errors: ValueError.
    """
    check_extent(real, "real", float("inf"))
    check_extent(fake, "fake", float("inf"))
    if real.shape != fake.shape or real.shape[2] != real.shape[3]:
        raise ValueError(
            f"real and fake must have one shape (N, C, H, H), got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    side, sides = real.shape[2], []
    while side >= COARSEST and side % 2 == 0 and side // 2 >= COARSEST:
        sides.append(side)
        side //= 2
    sides.append(side)
    if side < patch:
        raise ValueError(f"real and fake must have at least {patch} pixels a side at the coarsest level, got {side}")
    distances: dict[int | str, float] = {}
    for level, side in enumerate(sides):
        sets = [
            _descriptors(images, len(sides), level, patches, patch, randomness.derive(seed, name, level))
            for images, name in ((real, "real patches"), (fake, "fake patches"))
        ]
        values = []
        for repeat in range(repeats):
            lines = random_directions(
                directions, sets[0].shape[1], randomness.derive(seed, f"lines {repeat}", level)
            ).to(sets[0])
            for u in lines.split(16, dim=1):
                a, b = ((descriptors @ u).sort(0).values for descriptors in sets)
                values.append((a - b).abs().double().mean(0))
        distances[side] = torch.cat(values).mean().item() * per_image_scale
    return {**distances, "mean": sum(distances.values()) / len(distances)}


def _descriptors(images, levels, level, patches, patch, seed):
    """(N patches, C patch^2)"""
    source = torch.Generator().manual_seed(seed)
    found = []
    for batch in images.split(BATCH):
        scaled = laplacian_pyramid(batch.float(), levels)[level]
        n, channels, side, _ = scaled.shape
        corners = torch.randint(side - patch + 1, (2, n, patches), generator=source).to(scaled.device)
        span = torch.arange(patch, device=scaled.device)
        rows = corners[0, :, :, None, None] + span[:, None]  # (n, patches, patch, 1)
        columns = corners[1, :, :, None, None] + span  # (n, patches, 1, patch)
        which = torch.arange(n, device=scaled.device)[:, None, None, None]
        found.append(scaled.permute(0, 2, 3, 1)[which, rows, columns].reshape(-1, patch * patch, channels))
    descriptors = torch.cat(found)  # (N patches, patch^2, C)
    mean, std = descriptors.mean((0, 1), keepdim=True), descriptors.std((0, 1), keepdim=True, correction=0)
    return ((descriptors - mean) / std.clamp_min(1e-8)).flatten(1)
