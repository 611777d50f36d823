"""Zero-centred gradient penalties (Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018)."""

from dataclasses import dataclass
from typing import Any

from fastgan.penalties.gradient.gradient_penalty import GradientPenalty


@dataclass(frozen=True)
class _ZeroCentred(GradientPenalty):
    factors = ("gamma",)

    gamma: float = 10.0

    def __post_init__(self):
        super().__post_init__()
        self._require("gamma")

    def arithmetic(self) -> tuple[float, dict[str, Any]]:
        return self.gamma / 2, {"kind": "squared"}


@dataclass(frozen=True)
class R1(_ZeroCentred):
    """gamma / 2 * mean_i |grad D(real_i)|^2.

    Equation 9, with its 1/2; programs that leave it out mean twice this gamma. Norm, modes and errors: GradientPenalty.
    """

    gradients = ("real",)


@dataclass(frozen=True)
class R2(_ZeroCentred):
    """gamma / 2 * mean_i |grad D(fake_i)|^2.

    Equation 10. Norm, modes and errors: GradientPenalty.
    """

    gradients = ("fake",)
