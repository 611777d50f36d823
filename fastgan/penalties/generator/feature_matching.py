"""Feature matching (Salimans et al., "Improved Techniques for Training GANs", 2016), also as a perceptual distance."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from fastgan import processes
from fastgan.penalties.critic import module_of
from fastgan.penalties.terms import CriticFunction, GeneratorTerm, Measured, State


@dataclass(frozen=True)
class FeatureMatching(GeneratorTerm):
    """weight * the sum over feature tensors f of |E f(real) - E f(fake)|^2 (Salimans et al.), E over the
    batch of all processes.

    features: f, x -> a tensor or several; None takes the critic's network's own `features`. A module's parameters get
        gradients unless they are frozen, as the trainer freezes the critic.
    paired: E |f(real_i) - f(fake_i)| over samples and elements instead, for paired data (pix2pixHD's form, and a
        perceptual distance with features of a trained network).
    Diagnostics: "distance", without the weight. Gradients reach fake only.
    """

    weight: float = 1.0
    features: Callable | None = None
    paired: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("weight")
        if self.features is not None and not callable(self.features):
            self._refuse("features", "a function, a module or None")

    def measure(
        self,
        critic: CriticFunction | None = None,
        *,
        real: torch.Tensor | None = None,
        fake: torch.Tensor | None = None,
        generator: nn.Module | None = None,
        latents: torch.Tensor | None = None,
        condition: torch.Tensor | None = None,
        state: State | None = None,
        rng: torch.Generator | None = None,
    ) -> Measured:
        real, fake = self._need(real=real, fake=fake)
        features = self.features or _own_features(critic)
        with torch.no_grad():
            wanted = _several(features(real))
        pairs = zip(_several(features(fake)), wanted, strict=True)
        distance = torch.stack([self._distance(got.float(), want.float()) for got, want in pairs]).sum()
        return self.weight * distance, {"distance": distance.detach()}

    def _distance(self, got, want):
        return (got - want).abs().mean() if self.paired else processes.mean(got.mean(0) - want.mean(0)).square().sum()


def _own_features(critic):
    network = module_of(critic)
    features = getattr(network, "features", None)
    if not callable(features):
        raise ValueError(
            f"FeatureMatching needs features=: {type(network or critic).__name__} has no callable `features`"
        )
    return features


def _several(features):
    return [features] if isinstance(features, torch.Tensor) else list(features)
