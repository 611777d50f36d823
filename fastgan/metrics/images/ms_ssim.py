"""Multi-scale structural similarity (Wang et al., 2003), and diversity by it (Odena et al., 2017)."""

import torch
from torch.nn.functional import avg_pool2d

from fastgan import randomness
from fastgan.metrics.features.image_tensor import check_extent

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11


def fitting_scales(side: int) -> tuple[int, int]:
    """(scales, window) for images with this shorter side: 5 and 11 from 176 pixels on, else the largest that fit.

    First the number of scales falls, down to two, then the window, to an odd number of at least 3.
    """
    scales = next((s for s in range(len(WEIGHTS), 2, -1) if side // 2 ** (s - 1) >= WINDOW), 2)
    room = side // 2 ** (scales - 1)
    window = min(WINDOW, room - 1 + room % 2)
    if window < 3:
        raise ValueError(f"images must have at least 6 pixels a side, got {side}")
    return scales, window


def ms_ssim_name(side: int) -> str:
    """ "MS-SSIM" for the standard one, else a name with its scales and window."""
    scales, window = fitting_scales(side)
    return "MS-SSIM" if (scales, window) == (len(WEIGHTS), WINDOW) else f"MS-SSIM[{scales} scales, window {window}]"


def ms_ssim(
    x: torch.Tensor, y: torch.Tensor, *, data_range: float = 2.0, scales: int | None = None, window: int | None = None
) -> torch.Tensor:
    """prod_j mean(cs_j)^w_j times mean(ssim)^w of the last scale, per pair: (B,) float64; 1 if x = y.

    x, y: (B, C, H, W) images of any dtype, finite. data_range: highest minus lowest value that images may have, 2 for
    [-1, 1], 255 for bytes; a larger range than twice that is an error.
    Gaussian window of deviation 1.5 without padding; negative means count as 0. scales, window: by default those of
    fitting_scales; with fewer than five scales the weights are scaled to the sum of all five.
    Errors: ValueError.
    """
    check_extent(x, "x", data_range)
    check_extent(y, "y", data_range)
    if x.shape != y.shape:
        raise ValueError(f"x and y must have one shape (B, C, H, W), got {tuple(x.shape)} and {tuple(y.shape)}")
    fitting = fitting_scales(min(x.shape[2:]))
    scales, window = scales or fitting[0], window or fitting[1]
    if not 1 <= scales <= len(WEIGHTS) or min(x.shape[2:]) // 2 ** (scales - 1) < window:
        raise ValueError(f"scales and window do not fit {tuple(x.shape[2:])} pixels: {scales}, {window}")
    weights = [w * sum(WEIGHTS) / sum(WEIGHTS[:scales]) for w in WEIGHTS[:scales]]
    x, y = x.double(), y.double()
    result = x.new_ones(len(x))
    for scale, weight in enumerate(weights):
        if scale:
            x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
        ssim, contrast = _ssim(x, y, window, data_range)
        result = result * (ssim if scale == scales - 1 else contrast).clamp_min(0) ** weight
    return result


def ms_ssim_diversity(
    images: torch.Tensor, *, pairs: int = 10_000, data_range: float = 2.0, seed: int = 0, batch: int = 64
) -> float:
    """Mean MS-SSIM of random pairs of different samples: high if the generator has collapsed.

    images: (N, C, H, W), N >= 2. Compare it with the value of real images: it depends on the data. Memory O(batch).
    """
    check_extent(images, "images", data_range)
    n = len(images)
    if n < 2:
        raise ValueError(f"images must hold at least 2 samples, got {n}")
    source = randomness.generator(seed, "pairs of images")
    first = torch.randint(n, (pairs,), generator=source)
    second = (first + 1 + torch.randint(n - 1, (pairs,), generator=source)) % n
    total = 0.0
    for i, j in zip(first.split(batch), second.split(batch), strict=True):
        total += ms_ssim(images[i], images[j], data_range=data_range).sum().item()
    return total / pairs


def _ssim(x, y, window, data_range):
    """Means over the image of l c s and of c s, (B,)"""
    stacked = torch.stack([x, y, x * x, y * y, x * y])  # (5, B, C, H, W)
    stacked = _band(x, x.shape[2], window).T @ stacked @ _band(x, x.shape[3], window)
    mx, my, xx, yy, xy = stacked
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    contrast = (2 * (xy - mx * my) + c2) / (xx - mx * mx + yy - my * my + c2)
    luminance = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    return (luminance * contrast).mean((1, 2, 3)), contrast.mean((1, 2, 3))


def _band(like, side, window):
    """(side, side - window + 1): v @ band is v convolved with the window, without padding."""
    line = torch.arange(window, dtype=like.dtype, device=like.device) - (window - 1) / 2
    line = torch.exp(-line.square() / (2 * 1.5**2))
    band = like.new_zeros(side, side - window + 1)
    for offset, weight in enumerate(line / line.sum()):
        band.diagonal(-offset).fill_(weight)
    return band
