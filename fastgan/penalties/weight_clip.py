"""WGAN's weight clipping (Arjovsky et al., 2017)."""

from dataclasses import dataclass

import torch
from torch import nn

from fastgan.penalties.terms import Constraint


@dataclass(frozen=True)
class WeightClip(Constraint):
    """A constraint: apply_(critic) clamps its parameters to [-c, c].

    when: "after" each step of the critic, as Algorithm 1 of the paper, or "before" it, as the paper's program.
    weights_only: do not clip vectors (biases, gains and biases of norms). Paper and program clip every parameter.
    """

    c: float = 0.01
    when: str = "after"
    weights_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.c, bool) or not isinstance(self.c, (int, float)) or not 0 < self.c < float("inf"):
            self._refuse("c", "a number above 0")
        if self.when not in ("after", "before"):
            self._refuse("when", '"after" or "before"')

    @torch.no_grad()
    def apply_(self, module: nn.Module) -> nn.Module:
        """Clamps in place; returns the module."""
        parameters: list[torch.Tensor] = [p for p in module.parameters() if p.dim() > 1 or not self.weights_only]
        torch._foreach_clamp_min_(parameters, -self.c)
        torch._foreach_clamp_max_(parameters, self.c)
        return module
