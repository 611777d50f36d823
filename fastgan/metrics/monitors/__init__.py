"""What goes wrong in a run while it trains: cheap observations, and the sentences that follow from them."""

from fastgan.metrics.monitors.findings import Finding, findings
from fastgan.metrics.monitors.observation import Reference, auc, gradient_norm, observe, pooled

__all__ = ["Finding", "Reference", "auc", "findings", "gradient_norm", "observe", "pooled"]
