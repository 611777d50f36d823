"""The exponential moving average of a generator: what samples are drawn from."""

import copy

import torch
from torch import nn


def make_average(network):
    """A copy of the network, in evaluation mode and without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


class MovingAverage:
    """average <- d average + (1 - d) network, d = min(decay, (1 + step) / (10 + step)), after update number `step`.

    The second bound on d forgets the untrained weights early. Batch norm's running
    statistics are averaged alike, to fit the averaged weights; all other buffers (counters, the singular vectors of
    spectral norm, whose average would have no unit length) are copied. The tensors of both networks are looked up once,
    buffers by their names, since a forward may replace them.
    """

    def __init__(self, average, network):
        self.weights = list(average.parameters()), list(network.parameters())
        self.sharded = any(hasattr(p, "to_local") for p in network.parameters())  # each process moves its part
        self.statistics, self.copied = [], []
        for old, new in zip(average.modules(), network.modules(), strict=True):
            averaged = isinstance(new, nn.modules.batchnorm._BatchNorm)
            for name, buffer in new._buffers.items():
                if buffer is not None:
                    kind = self.statistics if averaged and name.startswith("running_") else self.copied
                    kind.append((old._buffers, new._buffers, name))

    @torch.no_grad()
    def update(self, decay, step):
        weight = 1 - min(decay, (1 + step) / (10 + step))
        old, new = self.weights
        if self.sharded:
            old, new = ([p.to_local() if hasattr(p, "to_local") else p for p in of_one] for of_one in self.weights)
        if self.statistics:
            old = old + [of_old[name] for of_old, _, name in self.statistics]
            new = new + [of_new[name] for _, of_new, name in self.statistics]
        torch._foreach_lerp_(old, new, weight)
        if self.copied:
            torch._foreach_copy_(
                [of_old[name] for of_old, _, name in self.copied], [of_new[name] for _, of_new, name in self.copied]
            )
