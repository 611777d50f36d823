"""Random transformations of images that a critic sees through, differentiable twice."""

from fastgan.augment.adaptive import AdaptiveProbability
from fastgan.augment.diffaugment import POLICIES, DiffAugment

__all__ = ["POLICIES", "AdaptiveProbability", "DiffAugment"]
