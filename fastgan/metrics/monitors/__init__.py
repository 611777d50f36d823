"""What goes wrong in a run while it trains: cheap observations, and the sentences that follow from them."""

from fastgan.metrics.monitors.findings import Finding, findings
from fastgan.metrics.monitors.observation import Reference, auc, gradient_norm, observe, pooled
from fastgan.metrics.monitors.plateau import is_best, plateau

__all__ = ["Finding", "Reference", "auc", "findings", "gradient_norm", "is_best", "observe", "plateau", "pooled"]
