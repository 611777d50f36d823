"""The ops: functional, twice differentiable, one file per family."""

import fastgan._library  # noqa: F401  (the compiled ops must be there before their derivatives are registered)
from fastgan.ops.spectral_norm import spectral_norm, spectral_norm_reference

__all__ = ["spectral_norm", "spectral_norm_reference"]
