"""The exponential moving average of a generator: what samples are drawn from."""

import copy

import torch
from torch import nn


def make_average(network):
    """A copy of the network, in evaluation mode and without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average, network, decay, step):
    """average <- d average + (1 - d) network, d = min(decay, (1 + step) / (10 + step)), after update number `step`.

    The second term lets the first, useless weights be forgotten as soon as there are better ones. Batch norm's running
    statistics are averaged alike, to fit the averaged weights; all other buffers (counters, the singular vectors of
    spectral norm, whose average would have no unit length) are copied.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    averaged, copied = _tensors(average), _tensors(network)
    torch._foreach_lerp_(averaged[0], copied[0], weight)
    for old, new in zip(averaged[1], copied[1], strict=True):
        old.copy_(new)


def _tensors(network):
    """-> those to average, those to copy"""
    statistics = [
        tensor
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for tensor in (module.running_mean, module.running_var)
        if tensor is not None
    ]
    known = {id(tensor) for tensor in statistics}
    return [*network.parameters(), *statistics], [b for b in network.buffers() if id(b) not in known]
