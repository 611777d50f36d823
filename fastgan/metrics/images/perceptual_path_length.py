"""Perceptual path length (Karras et al., 2019, section 4.1), with a distance that the caller supplies."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch

from fastgan import randomness
from fastgan.metrics.evaluated import evaluated

INTERPOLATIONS = ("lerp", "slerp")


class PathLength(NamedTuple):
    """Mean and standard deviation of the paths' lengths."""

    mean: float
    std: float
    kept: int  # paths left after the discards


@torch.no_grad()
def perceptual_path_length(
    generator: Callable[..., torch.Tensor],
    distance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    latents: torch.Tensor,
    *,
    labels: torch.Tensor | None = None,
    epsilon: float = 1e-4,
    discard: tuple[float, float] = (0.01, 0.99),
    interpolation: Literal["lerp", "slerp"] = "lerp",
    seed: int = 0,
    batch: int = 64,
) -> PathLength:
    """Mean of d(G(z(t)), G(z(t + epsilon))) / epsilon^2, z(t) between two latents, t ~ U[0, 1].

    generator: called with z, or z and labels, in evaluation mode; each module is given back in its own mode. Both ends
    of a path are drawn with the same random numbers, if the generator draws any itself. distance: (images, images) ->
    (B,), e.g. LPIPS, squared in nature.
    latents: (2 N, z_dim), the first half the paths' beginnings, the second their ends; labels: (N,).
    interpolation: "lerp" (torch-fidelity's) or "slerp", along the sphere, of normalised latents (the paper's for z).
    discard: quantiles outside of which paths are left out. Errors: ValueError.
    """
    if len(latents) < 2 or len(latents) % 2:
        raise ValueError(f"latents must hold an even number of rows, at least 2, got {len(latents)}")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}")
    begins, ends = latents.chunk(2)
    t = torch.rand(len(begins), 1, generator=randomness.generator(seed, "positions on paths")).to(latents)
    between = torch.lerp if interpolation == "lerp" else _slerp
    values = []
    with evaluated(generator, distance), randomness.global_seed(seed, "path length", latents.device):
        for number, rows in enumerate(torch.arange(len(begins)).split(batch)):
            a, b, s = begins[rows], ends[rows], t[rows]
            conditions = () if labels is None else (labels[rows],)
            pair = []
            for position in (s, s + epsilon):
                randomness.reseed(seed, "path", number)
                pair.append(generator(between(a, b, position), *conditions))
            values.append(distance(*pair).double().flatten() / epsilon**2)
    lengths = torch.cat(values)
    if not lengths.isfinite().all():
        raise ValueError("distance must be finite, got NaN or infinity: look at the generator's samples")
    low, high = (lengths.quantile(q, interpolation=i) for q, i in zip(discard, ("lower", "higher"), strict=True))
    kept = lengths[(lengths >= low) & (lengths <= high)]
    return PathLength(kept.mean().item(), kept.std(correction=0).item(), len(kept))


def _slerp(a, b, t):
    a, b = (v / torch.linalg.vector_norm(v, dim=1, keepdim=True) for v in (a, b))
    cosine = (a * b).sum(1, keepdim=True).clamp(-1, 1)
    across = b - cosine * a
    across = across / torch.linalg.vector_norm(across, dim=1, keepdim=True).clamp_min(1e-12)
    angle = t * cosine.acos()
    return a * angle.cos() + across * angle.sin()
