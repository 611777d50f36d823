"""The extractor of a command."""

import sys

from fastgan import metrics

GARMENTS_ONLY = "fashion-cnn"


def of(name: str | None, source: str) -> metrics.Extractor:
    """The Extractor of a flag, the classifier of garments by default: with a warning if `source` is something else."""
    if name is None and not source.startswith("fashion"):
        print(
            f"{source}: {GARMENTS_ONLY} knows garments alone, and its numbers say little of other images:"
            " choose --extractor torchvision:NAME, inception:FILE or module:function",
            file=sys.stderr,
        )
    return metrics.extractor(name or GARMENTS_ONLY)
