"""Which networks let one sample of a batch see the others."""

from torch import nn


def coupling_layer(network: nn.Module) -> tuple[str, nn.Module] | None:
    """(name, module) of the first layer through which an output depends on the batch's other samples, or None.

    Batch norm that uses the batch's statistics (in training, or without running ones), and any module with a true
    attribute `couples_samples`. The network itself has the name "".
    """
    for name, module in network.named_modules():
        if getattr(module, "couples_samples", False) or _uses_batch_statistics(module):
            return name, module
    return None


def couples_samples(network: nn.Module) -> bool:
    """Whether an output depends on the batch's other samples."""
    return coupling_layer(network) is not None


def _uses_batch_statistics(module):
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    return module.training or (module.running_mean is None and module.running_var is None)
