"""Orthogonal regularisation of weights (Brock et al., 2017; relaxed in "Large Scale GAN Training", 2019)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from fastgan.nn.couples_samples import Coupling
from fastgan.penalties.critic import module_of
from fastgan.penalties.evaluate import Judged
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.terms import CRITIC, GENERATOR, CriticFunction, Measured, State

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHT_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


@dataclass(frozen=True)
class OrthogonalRegularization(Penalty):
    """weight * the sum over layers of |W W^T * (1 - I)|^2 (form "biggan") or |W W^T - I|^2 (form "plain").

    W (out, everything else) is the weight of a linear or convolution layer: before spectral normalisation if the layer
    has one, after weight normalisation. Embeddings are left out, as in BigGAN's program. "biggan" wants filters to be
    orthogonal, at any length.
    A call takes the critic's network, `of(module)` any. In a recipe's `generator_terms` the term is the generator's.
    Diagnostics: "orthogonality", the sum without its weight.
    """

    roles: ClassVar[tuple[str, ...]] = (CRITIC, GENERATOR)

    weight: float = 1e-4
    form: Literal["biggan", "plain"] = "biggan"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("weight")
        if self.form not in ("biggan", "plain"):
            self._refuse("form", '"biggan" or "plain"')

    def check(self, critic: CriticFunction, real: torch.Tensor, fake: torch.Tensor, coupling: Coupling) -> None:
        super().check(critic, real, fake, coupling)
        if module_of(critic) is None:
            raise ValueError("OrthogonalRegularization needs the critic's weights: pass an nn.Module as critic")

    def of(self, module: nn.Module) -> torch.Tensor:
        return self.weight * self._sum(module)

    def of_generator(self, critic: CriticFunction | None, *, generator: nn.Module, **given: Any) -> Measured:
        """(value, diagnostics) of the generator's weights, as in BigGAN."""
        total = self._sum(generator)
        return self.weight * total, {"orthogonality": total.detach()}

    def terms(self, judged: Judged, drawn: torch.Tensor | None, state: State | None) -> Measured:
        total = self._sum(module_of(judged.critic))
        return self.weight * total, {"orthogonality": total.detach()}

    def _sum(self, module):
        with torch.autocast(next(module.parameters()).device.type, enabled=False):
            return sum((self._of_matrix(matrix) for matrix in _matrices(module)), torch.zeros(()))

    def _of_matrix(self, matrix):
        gram = matrix @ matrix.T
        unit = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return (gram * (1 - unit) if self.form == "biggan" else gram - unit).square().sum()


def _matrices(module):
    for layer in module.modules():
        if isinstance(layer, WEIGHT_LAYERS):
            weight = _weight(layer)
            weight = weight.transpose(0, 1) if isinstance(layer, TRANSPOSED) else weight
            yield weight.flatten(1).to(torch.promote_types(weight.dtype, torch.float32))


def _weight(layer):
    """The tensor that a parametrization starts from; the computed weight if there are several, as in weight norm."""
    if parametrize.is_parametrized(layer, "weight"):
        original = getattr(layer.parametrizations.weight, "original", None)  # layer.weight moves a power iteration
        return layer.weight if original is None else original
    return layer.weight
