"""What goes wrong in a run while it trains: cheap observations, and the sentences that follow from them."""

from fastgan.metrics.monitors.findings import Finding, findings
from fastgan.metrics.monitors.observation import (
    Reference,
    auc,
    gradient_norm,
    largest_singular_value,
    observe,
    pooled,
)
from fastgan.metrics.monitors.plateau import CRITERIA, is_best, plateau

__all__ = [
    "CRITERIA",
    "Finding",
    "Reference",
    "auc",
    "findings",
    "gradient_norm",
    "is_best",
    "largest_singular_value",
    "observe",
    "plateau",
    "pooled",
]
