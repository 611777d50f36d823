"""Distributions in the plane whose modes are known, with the constants of the papers that use them."""

import math

import torch

from fastgan import randomness
from fastgan.data.sources.tensor_data import TensorData

COUNT = 100_000
# The papers disagree about what "the ring" is; a result means little without the name of the preset.
RINGS = {  # modes, radius, sigma
    "pacgan": (8, 1.0, 0.01),  # Lin et al., 2018, and the notebook of unrolled GANs
    "wgan_gp": (8, 2 / 1.414, 0.02 / 1.414),  # "8 gaussians", Gulrajani et al., 2017, the code
    "unrolled": (8, 2.0, 0.02),  # Metz et al., 2017, the paper
    "presgan": (10, 3.0, 0.05),  # Dieng et al., 2019
}
GRIDS = {  # scale, sigma: 25 modes at scale * {-4, -2, 0, 2, 4}^2
    "pacgan": (1.0, 0.05),
    "wgan_gp": (1 / 2.828, 0.05 / 2.828),  # "25 gaussians"
}
SWISS_ROLL_SCALE = 7.5


class Toy(TensorData):
    """Points (N, 2), float32, drawn once; batches resample them with replacement, as PacGAN's do.

    modes: the means (K, 2) float32, or None for the Swiss roll; sigma: the standard deviation about each, in both
    directions. Labels are the modes that the points were drawn from.
    """

    replacement = True

    def __init__(
        self, samples: torch.Tensor, labels: torch.Tensor | None, modes: torch.Tensor | None, sigma: float
    ) -> None:
        super().__init__(samples, labels, None if modes is None else tuple(str(k) for k in range(len(modes))))
        self.modes, self.sigma = modes, sigma


def ring(
    preset: str = "pacgan",
    count: int = COUNT,
    seed: int = 0,
    *,
    modes: int | None = None,
    radius: float | None = None,
    sigma: float | None = None,
) -> Toy:
    """Equally likely Gaussians at (cos 2 pi k/K, sin 2 pi k/K) * radius, k = 0..K-1.

    modes (K), radius, sigma: by default the preset's. Errors: ValueError.
    """
    count_of_modes, length, spread = _chosen(RINGS, preset, modes=modes, radius=radius, sigma=sigma)
    angle = 2 * math.pi * torch.arange(count_of_modes, dtype=torch.float64) / count_of_modes
    # a linspace up to 2 pi would meet its start
    return _mixture(length * torch.stack([angle.cos(), angle.sin()], 1), spread, count, seed)


def grid(
    preset: str = "pacgan",
    count: int = COUNT,
    seed: int = 0,
    *,
    side: int = 5,
    scale: float | None = None,
    sigma: float | None = None,
) -> Toy:
    """side^2 equally likely Gaussians, 2 scale apart and centred at 0; the papers' 25 at scale * {-4, -2, 0, 2, 4}^2.

    scale, sigma: by default the preset's. Errors: ValueError.
    """
    scale, sigma = _chosen(GRIDS, preset, scale=scale, sigma=sigma)
    _chosen({"": (side,)}, "", side=side)
    ticks = scale * (2.0 * torch.arange(side, dtype=torch.float64) - (side - 1))
    return _mixture(torch.cartesian_prod(ticks, ticks), sigma, count, seed)


def swiss_roll(count: int = COUNT, seed: int = 0) -> Toy:
    """(t cos t, t sin t) + 0.25 N(0, I), all divided by 7.5; t uniform in [1.5 pi, 4.5 pi] (WGAN-GP's code)."""
    source = _source(count, seed)
    t = 1.5 * math.pi * (1 + 2 * torch.rand(count, generator=source, dtype=torch.float64))
    spiral = t.unsqueeze(1) * torch.stack([t.cos(), t.sin()], 1)
    points = spiral + 0.25 * torch.randn(count, 2, generator=source, dtype=torch.float64)
    return Toy((points / SWISS_ROLL_SCALE).float(), None, None, 0.25 / SWISS_ROLL_SCALE)


def _mixture(modes, sigma, count, seed):
    source = _source(count, seed)
    labels = torch.randint(len(modes), (count,), generator=source)
    points = modes[labels] + sigma * torch.randn(count, 2, generator=source, dtype=torch.float64)
    return Toy(points.float(), labels, modes.float(), sigma)


def _source(count, seed):
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    return randomness.generator(seed, "toy points")


def _chosen(presets, name, **given):
    """The numbers of a preset, each replaced by the one that is given."""
    if name not in presets:
        raise ValueError(f"preset must be one of {', '.join(presets)}; got {name!r}")
    chosen = [own if value is None else value for own, value in zip(presets[name], given.values(), strict=True)]
    for argument, own, value in zip(given, presets[name], chosen, strict=True):
        if isinstance(own, int) and not (isinstance(value, int) and value >= 1):
            raise ValueError(f"{argument} must be an integer of at least 1; got {value!r}")
        if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
            raise ValueError(f"{argument} must be a finite number above 0; got {value!r}")
    return chosen
