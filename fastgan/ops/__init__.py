"""The ops: functional, twice differentiable, one file per family."""

import fastgan._library  # noqa: F401  (the compiled ops must be there before their derivatives are registered)
from fastgan.ops.grad_norm_penalty import grad_norm_penalty, grad_norm_penalty_reference
from fastgan.ops.spectral_norm import spectral_norm, spectral_norm_reference

__all__ = ["grad_norm_penalty", "grad_norm_penalty_reference", "spectral_norm", "spectral_norm_reference"]
