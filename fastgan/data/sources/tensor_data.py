"""A data set that lies in memory."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch

BYTES, TANH = 2.0, 1.05  # float images above the first are bytes that were not scaled; above the second, not in [-1, 1]


class TensorData:
    """samples (N, *shape), a tensor or NumPy array: uint8 images 0..255, which become [-1, 1]; or floating point, which
    stay as they are, images in [-1, 1].

    labels: (N,) integers in 0..len(classes)-1, or None. classes: their names; by default the numbers that occur.
    Warns of images (N, C, H, W) whose channels seem to come last, or whose values seem to be [0, 1] or another scale.
    Errors: TypeError for other types; ValueError for NaN, infinity, and float images in 0..255, with what to do.
    """

    skipped: Mapping[str, int]  # of a folder in memory: what was left out, by reason

    def __init__(
        self,
        samples: torch.Tensor | np.ndarray,
        labels: torch.Tensor | np.ndarray | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        if isinstance(samples, np.ndarray):
            samples = torch.from_numpy(samples) if samples.dtype.kind in "fu" and samples.itemsize <= 8 else samples
        if not isinstance(samples, torch.Tensor) or not (samples.dtype == torch.uint8 or samples.is_floating_point()):
            raise TypeError(
                f"samples must be a uint8 or floating-point tensor or NumPy array, got {_describe(samples)}"
            )
        if samples.ndim < 2 or samples.numel() == 0:
            raise ValueError(f"samples must have shape (N, ...) without a zero, got {tuple(samples.shape)}")
        _check_finite(samples)
        if samples.ndim == 4:
            _check_images(samples)
        self.samples = samples
        self.shape = tuple(samples.shape[1:])
        self.labels = self.classes = None
        if labels is not None:
            self.labels = torch.as_tensor(labels, dtype=torch.int64)
            if self.labels.shape != samples.shape[:1]:
                raise ValueError(f"labels must have shape ({len(samples)},), got {tuple(self.labels.shape)}")
            highest = int(self.labels.max())
            self.classes = tuple(classes) if classes else tuple(str(i) for i in range(highest + 1))
            if int(self.labels.min()) < 0 or highest >= len(self.classes):
                raise ValueError(
                    f"labels must lie in 0..{len(self.classes) - 1}, got {int(self.labels.min())}..{highest}"
                )

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        samples = self.samples[indices]
        samples = samples / 127.5 - 1 if samples.dtype == torch.uint8 else samples.float()
        return samples, None if self.labels is None else self.labels[indices]


def _check_finite(samples):
    if samples.dtype != torch.uint8 and not torch.stack(samples.aminmax()).isfinite().all():
        broken = ~samples.flatten(1).isfinite().all(1)
        raise ValueError(
            f"samples must be finite: {int(broken.sum())} of {len(samples)} hold NaN or infinity, the first is"
            f" samples[{int(broken.nonzero()[0])}]"
        )


def _check_images(samples):
    shape = tuple(samples.shape)
    if shape[3] in (1, 3, 4) and shape[1] > 4:
        _warn(
            f"samples of shape {shape} seem to have their channels last; channels come second, (N, C, H, W):"
            " try samples.permute(0, 3, 1, 2)"
        )
    if samples.dtype == torch.uint8:
        return
    low, high = (value.item() for value in samples.aminmax())
    if low >= 0 and high > BYTES:
        raise ValueError(
            f"samples lie in {low:.4g}..{high:.4g}; float images must lie in [-1, 1]: try samples / 127.5 - 1, or"
            " uint8, if the values are 0..255"
        )
    if max(-low, high) > TANH:
        _warn(
            f"samples lie in {low:.4g}..{high:.4g}, and a generator that ends in tanh reaches -1..1 alone: scale them"
        )
    elif low >= 0 and high > 0:
        _warn(f"samples lie in {low:.4g}..{high:.4g}, half of [-1, 1]: try 2 * samples - 1 if the values are 0..1")


def _warn(text):
    warnings.warn(text, stacklevel=4)


def _describe(value):
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return f"a tensor of {value.dtype}" if isinstance(value, torch.Tensor) else f"an array of {value.dtype}"
    return type(value).__name__
