"""DiffAugment (Zhao et al., 2020): the same kind of random changes to real and generated images, gradients included."""

from dataclasses import dataclass
from functools import partial

import torch

from fastgan import randomness


def brightness(x: torch.Tensor) -> torch.Tensor:
    """x + u - 1/2, u uniform in [0, 1) for each image"""
    return x + (_uniform(x) - 0.5)


def saturation(x: torch.Tensor) -> torch.Tensor:
    """2u times as far from the mean over the channels"""
    mean = x.mean(1, keepdim=True)
    return (x - mean) * (2 * _uniform(x)) + mean


def contrast(x: torch.Tensor) -> torch.Tensor:
    """u + 1/2 times as far from the image's mean"""
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * (_uniform(x) + 0.5) + mean


def translation(x: torch.Tensor, ratio: float = 0.125) -> torch.Tensor:
    """Moved by whole pixels, up to ratio of the side in each direction; zeros move in."""
    for dim in (2, 3):
        size = x.shape[dim]
        most = int(size * ratio + 0.5)
        shift = _integers(x, -most, most + 1)
        source = torch.arange(size, device=x.device) + shift  # (B, size)
        view = (len(x), 1, size, 1) if dim == 2 else (len(x), 1, 1, size)
        inside = ((source >= 0) & (source < size)).view(view)
        # Modulo the side it is a permutation: no two gradients meet in one pixel, in any order of differentiation.
        x = x.gather(dim, (source % size).view(view).expand_as(x)) * inside
    return x


def cutout(x: torch.Tensor, ratio: float = 0.5) -> torch.Tensor:
    """A rectangle of ratio of each side is zero; it may lie partly outside."""
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for dim in (2, 3):
        size = x.shape[dim]
        cut = int(size * ratio + 0.5)
        centre = _integers(x, 0, size + 1 - cut % 2)
        offset = torch.arange(size, device=x.device) - (centre - cut // 2)  # (B, size)
        inside = inside & ((offset >= 0) & (offset < cut)).view(
            (len(x), 1, size, 1) if dim == 2 else (len(x), 1, 1, size)
        )
    return x * ~inside


POLICIES = {
    "color": (brightness, saturation, contrast),
    "translation": (translation,),
    "cutout": (cutout,),
}


@dataclass(frozen=True)
class DiffAugment:
    """augment(x, p=1.0) -> x transformed, (B, C, H, W) floating point; differentiable to any order.

    policy: names in POLICIES, as a tuple or separated by commas, in the order of their use. Each transformation is
    applied to each image with probability p (a number or a 0-d tensor, as adaptive augmentation adjusts it), by draws
    from torch's global generator. Augment images before they are packed: the mean over channels is one image's.
    Errors: ValueError for an unknown policy, or for samples that are not images.
    """

    policy: tuple[str, ...] | str = ("color", "translation", "cutout")

    def __post_init__(self) -> None:
        names = self.policy.split(",") if isinstance(self.policy, str) else self.policy
        names = tuple(name.strip() for name in names)
        if not names or any(name not in POLICIES for name in names):
            raise ValueError(f"policy must be made of {', '.join(POLICIES)}; got {self.policy!r}")
        object.__setattr__(self, "policy", names)

    def __call__(self, x: torch.Tensor, p: float | torch.Tensor = 1.0) -> torch.Tensor:
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(
                f"x must be images (B, C, H, W) in floating point, got {x.dtype} {tuple(x.shape)}:"
                " vectors have no augmentation"
            )
        for name in self.policy:
            for transform in POLICIES[name]:
                moved = transform(x)
                if isinstance(p, torch.Tensor) or p < 1:
                    moved = torch.where(_uniform(x) < p, moved, x)
                x = moved
        return x


def _uniform(x: torch.Tensor) -> torch.Tensor:
    """(B, 1, 1, 1) in [0, 1)"""
    return randomness.of_batch(torch.rand, (len(x), 1, 1, 1), dtype=x.dtype, device=x.device)


def _integers(x, low, high):
    """(B, 1) in low..high - 1"""
    return randomness.of_batch(partial(torch.randint, low, high), (len(x), 1), device=x.device)
