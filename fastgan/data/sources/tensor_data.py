"""A data set that lies in memory."""

import torch


class TensorData:
    """samples (N, *shape): uint8 images 0..255, given out in [-1, 1]; or floating point, given out as they are.

    labels: (N,) integers in 0..len(classes)-1, or None. classes: their names; by default the numbers that occur.
    """

    def __init__(self, samples, labels=None, classes=None):
        if not isinstance(samples, torch.Tensor) or not (samples.dtype == torch.uint8 or samples.is_floating_point()):
            raise TypeError(f"samples must be a uint8 or floating-point tensor, got {_describe(samples)}")
        if samples.ndim < 2 or samples.numel() == 0:
            raise ValueError(f"samples must have shape (N, ...) without a zero, got {tuple(samples.shape)}")
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

    def __len__(self):
        return len(self.samples)

    def batch(self, indices):
        samples = self.samples[indices]
        samples = samples / 127.5 - 1 if samples.dtype == torch.uint8 else samples.float()
        return samples, None if self.labels is None else self.labels[indices]


def _describe(value):
    return f"a tensor of {value.dtype}" if isinstance(value, torch.Tensor) else type(value).__name__
