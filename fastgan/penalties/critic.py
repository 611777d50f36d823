"""How losses and penalties call the discriminator."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn

from fastgan.nn.couples_samples import Coupling, coupling
from fastgan.nn.pack import pack, unpack
from fastgan.penalties.terms import CriticFunction


class Critic:
    """critic(x) -> logits: a discriminator with its condition, packing, augmentation and choice of output.

    Every loss and penalty takes a function of samples. A Critic is such a function. Terms that need the module find the
    discriminator in it; a lambda hides the module.

    discriminator: called with x, or with x and the condition.
    condition: labels (B,) or, for packs, (B, pack); or source images (B, ...); None for a discriminator without. x may
        hold several batches with the same condition, one after the other.
    augment: a differentiable function of images, applied to each image before the discriminator sees it.
    pack: samples in a pack. x holds packs (B, pack * C, ...), as fastgan.nn.pack.pack makes them.
    output: which part of the discriminator's output is the logits: an index or a key, of a discriminator that returns
        a tuple, a list or a dict; or a function of the output. None for a discriminator that returns the logits.
    autocast: torch.bfloat16 or torch.float16, the dtype of torch.autocast around the discriminator alone; the logits
        then are float32. None for the autocast that is on where the critic is called.
    Errors: TypeError when the logits are not a tensor.
    """

    def __init__(
        self,
        discriminator: Callable[..., Any],
        condition: torch.Tensor | None = None,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
        pack: int = 1,
        output: int | str | Callable[[Any], torch.Tensor] | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.discriminator, self.condition, self.augment, self.pack = discriminator, condition, augment, pack
        self.output, self.autocast = output, autocast

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.augment is not None:
            x = pack(self.augment(unpack(x, self.pack)), self.pack)
        if self.autocast is None:
            return self._logits(x)
        with torch.autocast(x.device.type, self.autocast):
            return self._logits(x).float()

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        condition = self._condition(len(x))
        found = self.discriminator(x) if condition is None else self.discriminator(x, condition)
        if self.output is not None:
            found = self.output(found) if callable(self.output) else found[self.output]
        return checked_logits(found)

    def _condition(self, count: int) -> torch.Tensor | None:
        if self.condition is None:
            return None
        times, rest = divmod(count, len(self.condition))
        if rest:
            raise ValueError(
                f"x must hold whole batches of {len(self.condition)} samples, one a condition; got {count} samples"
            )
        return self.condition if times == 1 else torch.cat([self.condition] * times)

    def both(self, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """-> (logits of real, logits of fake): in one call if that makes no difference, else in two."""
        if not coupling_of(self, real, fake).joint:
            return self(real), self(fake)
        of_real, of_fake = self(torch.cat([real, fake])).split([len(real), len(fake)])
        return of_real, of_fake

    def features(self, x: torch.Tensor) -> Any:
        """The discriminator's own features, if the discriminator has a method for them."""
        return cast(Any, self.discriminator).features(x)


def checked_logits(logits: Any) -> torch.Tensor:
    """The logits. Errors: TypeError for anything but a tensor, with what to do."""
    if isinstance(logits, torch.Tensor):
        return logits
    raise TypeError(
        f"the critic must return a tensor of logits; this one returns a {type(logits).__name__}. Say which part of it"
        " is the logits: fastgan.penalties.Critic(discriminator, output=0), or output='logits' for a dict"
    )


def coupling_of(critic: CriticFunction, real: torch.Tensor, fake: torch.Tensor) -> Coupling:
    """fastgan.nn's Coupling of a critic that judges these batches."""
    return coupling(critic, _network(critic), real, fake)


def module_of(critic: CriticFunction) -> nn.Module | None:
    """The network behind a critic, or None for a plain function."""
    network = _network(critic)
    return network if isinstance(network, nn.Module) else None


def _network(critic: CriticFunction) -> Any:
    """The critic itself if that is a module, with all that the module holds; else what the critic shows."""
    return critic if isinstance(critic, nn.Module) else getattr(critic, "discriminator", critic)
