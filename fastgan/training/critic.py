"""How the discriminator is asked."""

from contextlib import contextmanager

import torch

from fastgan.nn.couples_samples import couples_samples


class Critic:
    """The discriminator with the labels of the batch at hand: critic(x) -> logits, all that losses and penalties see.

    x may hold several batches with the same labels, one after the other.
    """

    def __init__(self, discriminator, labels=None):
        self.discriminator, self.labels = discriminator, labels

    def __call__(self, x):
        if self.labels is None:
            return self.discriminator(x)
        return self.discriminator(x, self.labels.repeat(len(x) // len(self.labels)))

    def both(self, real, fake):
        """-> (logits of real, logits of fake): in one pass where that makes no difference, else in two."""
        if couples_samples(self.discriminator):
            return self(real), self(fake)
        return self(torch.cat([real, fake])).split([len(real), len(fake)])


@contextmanager
def frozen(network):
    """Without gradients for the network's parameters: autograd leaves out that half of its backward pass."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
