"""A thousand modes of real images: three handwritten digits, one on each channel."""

from typing import Literal

import torch

from fastgan import randomness
from fastgan.extras import require

PARTS = ("all", "train", "held_out")


class StackedDigits:
    """Images (3, 8, 8) in [-1, 1], drawn once; label 100 a + 10 b + c for digits a, b, c on the channels.

    digits: (n, 8, 8) float32, what is stacked; triples: int64 (N, 3), which of them make up a sample.
    """

    shape = (3, 8, 8)
    classes = tuple(f"{number:03d}" for number in range(1000))

    def __init__(self, digits: torch.Tensor, names: torch.Tensor, triples: torch.Tensor) -> None:
        self.digits, self.triples = digits, triples
        a, b, c = names[triples].unbind(1)
        self.labels = 100 * a + 10 * b + c

    def __len__(self) -> int:
        return len(self.triples)

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.digits[self.triples[indices]], self.labels[indices]


def digits(part: Literal["all", "train", "held_out"] = "all") -> tuple[torch.Tensor, torch.Tensor]:
    """The 1,797 digits of 8x8 pixels that come with scikit-learn (Alpaydin and Kaynak, 1998).

    -> images (n, 8, 8) float32 in [-1, 1], names (n,) int64. part: "all", "held_out" (every fifth) or "train" (others).
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}; got {part!r}")
    found = require("sklearn.datasets", "data").load_digits()
    images, names = torch.from_numpy(found.images).float() / 8 - 1, torch.from_numpy(found.target).long()
    held_out = torch.arange(len(images)) % 5 == 4
    keep = {"all": held_out | True, "train": ~held_out, "held_out": held_out}[part]
    return images[keep], names[keep]


def stacked_digits(
    part: Literal["all", "train", "held_out"] = "all", count: int = 100_000, seed: int = 0
) -> StackedDigits:
    """`count` triples of digits, each drawn uniformly and independently: the idea of stacked MNIST at 8x8 pixels."""
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    images, names = digits(part)
    triples = torch.randint(len(images), (count, 3), generator=randomness.generator(seed, f"stacked digits, {part}"))
    return StackedDigits(images, names, triples)
