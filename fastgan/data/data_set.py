"""What a data set is."""

from collections.abc import Sequence
from typing import Protocol

import torch


class DataSet(Protocol):
    """Anything that has a length, a shape, classes and batches, as the docstring of fastgan.data says."""

    @property
    def shape(self) -> Sequence[int]:
        """The shape of one sample."""
        ...

    @property
    def classes(self) -> Sequence[str] | None:
        """The names of the classes, or None."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """int64 (B,) -> samples (B, *shape) float32, and their condition (B, ...) or None."""
        ...
