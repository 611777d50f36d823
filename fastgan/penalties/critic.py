"""How the discriminator is asked."""

import torch
from torch import nn

from fastgan.nn.couples_samples import couples_samples


class Critic:
    """The discriminator with what its batch is conditioned on: critic(x) -> logits, all that losses and penalties see.

    x may hold several batches with the same condition, one after the other.
    condition: labels (B,) or (B, pack), or source images (B, ...); None for a discriminator without.
    augment: what is done to each image before the discriminator sees it; differentiable.
    pack: images stacked in a sample.
    """

    def __init__(self, discriminator, condition=None, augment=None, pack=1):
        self.discriminator, self.condition, self.augment, self.pack = discriminator, condition, augment, pack

    def __call__(self, x):
        if self.augment is not None:
            x = pack(self.augment(unpack(x, self.pack)), self.pack)
        return self.discriminator(x) if self.condition is None else self.discriminator(x, self._condition(len(x)))

    def _condition(self, count):
        times = count // len(self.condition)
        return self.condition if times == 1 else torch.cat([self.condition] * times)

    def both(self, real, fake):
        """-> (logits of real, logits of fake): in one pass where that makes no difference, else in two."""
        if couples_samples(self.discriminator):
            return self(real), self(fake)
        return self(torch.cat([real, fake])).split([len(real), len(fake)])

    def features(self, x):
        """The discriminator's own features, where it has a method for them."""
        return self.discriminator.features(x)


def pack(x, count):
    """(count * B, C, ...) -> (B, count * C, ...): independent samples stacked on channels; labels: (B, count)."""
    if count == 1 or x is None:
        return x
    if len(x) % count:
        raise ValueError(f"pack must divide the batch of {len(x)} samples, got {count}")
    if x.dim() == 1:
        return x.reshape(-1, count)
    return x.reshape(len(x) // count, count * x.shape[1], *x.shape[2:])


def unpack(x, count):
    """The inverse of pack."""
    return x if count == 1 else x.reshape(len(x) * count, x.shape[1] // count, *x.shape[2:])


def module_of(critic):
    """The network behind a critic, or None where it is a plain function."""
    network = getattr(critic, "discriminator", critic)
    return network if isinstance(network, nn.Module) else None
