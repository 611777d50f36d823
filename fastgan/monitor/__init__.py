"""What goes wrong in a run while it trains: cheap observations, and the sentences that follow from them."""

from fastgan.monitor.findings import Finding, findings
from fastgan.monitor.finite import not_finite
from fastgan.monitor.observation import (
    Modes,
    Reference,
    auc,
    gradient_norm,
    largest_spectral_norm,
    observe,
    pooled,
)
from fastgan.monitor.plateau import FID, GAP, KERNEL_DISTANCE, WASSERSTEIN, Series, best, is_best, plateau
from fastgan.monitor.quality import Quality

__all__ = [
    "FID",
    "GAP",
    "KERNEL_DISTANCE",
    "WASSERSTEIN",
    "Finding",
    "Modes",
    "Quality",
    "Reference",
    "Series",
    "auc",
    "best",
    "findings",
    "gradient_norm",
    "is_best",
    "largest_spectral_norm",
    "not_finite",
    "observe",
    "plateau",
    "pooled",
]
