"""What the two networks minimise: an adversarial loss, the critic's penalties, the generator's further terms."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.amp import GradScaler

from fastgan import losses, penalties
from fastgan.models import sampling
from fastgan.nn.pack import pack
from fastgan.penalties import Critic
from fastgan.penalties.terms import CONSTRAINT, CRITIC, GENERATOR, Measured, with_role

Values = dict[str, torch.Tensor]  # numbers to log, by name


class Terms(NamedTuple):
    """The terms that are due at one step, sorted by role, by their names."""

    critic: dict[str, Any]
    generator: dict[str, Any]
    constraints: tuple[Any, ...]
    step: int | None


class Roles(NamedTuple):
    """All terms of a recipe, sorted by role once."""

    critic: dict[str, Any]
    generator: dict[str, Any]
    constraints: dict[str, Any]

    @classmethod
    def of(cls, penalties: Iterable[Any], generator_terms: Iterable[Any] = ()) -> "Roles":
        penalties = tuple(penalties)
        return cls(
            with_role(penalties, CRITIC), with_role(generator_terms, GENERATOR), with_role(penalties, CONSTRAINT)
        )

    def at(self, step: int | None) -> Terms:
        """Those that are due at a step."""
        critic, generator, constraints = ({n: t for n, t in of.items() if t.is_due(step)} for of in self)
        return Terms(critic, generator, tuple(constraints.values()), step)


def terms_of(penalties: Iterable[Any] = (), generator_terms: Iterable[Any] = (), step: int | None = 0) -> Terms:
    """The terms of a recipe's two fields that are due at a step."""
    return Roles.of(penalties, generator_terms).at(step)


class Objective(NamedTuple):
    """The recipe's terms at one step. A loss is returned as the scalar to descend and the numbers to log.

    autocast: the dtype of autocast around both networks; None for no autocast. Everything else is float32.
    """

    loss: losses.AdversarialLoss
    terms: Terms = Terms({}, {}, (), 0)
    augment: Callable | None = None
    pack: int = 1
    memory: dict | None = None  # of the terms that have one: name -> dict of tensors
    through_samples: bool = False  # penalties keep the graph of the samples
    observe: Callable | None = None  # is called with the logits of real samples, once for each update of the critic
    on_gradients: Callable | None = None  # is called with the penalties.Gradients of each batch of the critic
    autocast: torch.dtype | None = None
    compiled: Callable | None = None  # of the critic's terms: a loss as compile_critic_loss makes it

    def critic(self, discriminator: nn.Module, condition: torch.Tensor | None = None) -> Critic:
        return Critic(discriminator, pack(condition, self.pack), self.augment, self.pack, autocast=self.autocast)

    def generate(self, generator: nn.Module, z: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """Samples from latents, float32."""
        if self.autocast is None:
            return sampling.generate(generator, z, condition)
        with torch.autocast(z.device.type, self.autocast):
            return sampling.generate(generator, z, condition).float()

    def discriminator(self, critic: Any, real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, Values]:
        """(total, values), with autograd's graph."""
        settings = self._settings()
        found = penalties.evaluate(
            self.terms.critic.values(), critic, real, fake, through_samples=self.through_samples, **settings
        )
        return self._total(found)

    def add_discriminator_gradients(
        self,
        critic: Any,
        real: torch.Tensor,
        fake: torch.Tensor,
        share: float = 1.0,
        keep_fake_gradient: bool = False,
        scaler: GradScaler | None = None,
    ) -> tuple[Values, torch.Tensor | None, penalties.Gradients | None]:
        """Adds share times the gradients to the critic's parameters, times the scale of a torch.amp.GradScaler.

        -> (values, logits of real, penalties.Gradients), all detached; None for the last two from a compiled loss.
        """
        if self.compiled is not None:
            return self._add_compiled(self.compiled, critic, real, fake, share, scaler)
        found = penalties.backward(
            critic,
            self.loss,
            self.terms.critic.values(),
            real=real,
            fake=fake,
            share=share,
            scaler=scaler,
            keep_fake_gradient=keep_fake_gradient,
            **self._settings(),
        )
        if self.on_gradients is not None:
            self.on_gradients(found)
        return self._values(found, found.loss), found.real_logits, found

    def _add_compiled(self, compiled, critic, real, fake, share, scaler):
        total, values = compiled(critic, real, fake, states=self._settings()["states"])
        total = total if share == 1 else total * share
        (total if scaler is None else scaler.scale(total)).backward()
        return {name: value.detach() for name, value in values.items()}, None, None

    def of_prepared(
        self, critic: Any, prepared: penalties.Prepared, states: list | None = None
    ) -> tuple[torch.Tensor, Values]:
        """The critic's loss when its inputs are prepared: what torch.compile can take as one graph."""
        terms = tuple(self.terms.critic.values())
        found = penalties.evaluate_prepared(terms, critic, prepared, states=states)
        counted: list[Measured | None] = []
        for term, measured in zip(terms, found.terms, strict=True):
            assert measured is not None  # all of these terms are due
            counted.append(term.counted(measured, self.terms.step))
        return self._total(found._replace(terms=counted))

    @property
    def generator_is_adversarial(self) -> bool:
        """Whether the generator's gradient is that of the adversarial loss at the critic's own inputs, and no more."""
        return not self.terms.generator and self.augment is None

    def generator(
        self, critic: Any, fake: torch.Tensor, real: torch.Tensor, **context: Any
    ) -> tuple[torch.Tensor, Values]:
        """context: what further terms may need: generator, latents, condition."""
        if self.loss.generator_needs_real:
            real_logits, fake_logits = critic.both(real, fake)
            total = self.loss.generator(fake_logits, real_logits)
        else:
            total = self.loss.generator(critic(fake))
        values = {"g_loss": total}
        for name, term in self.terms.generator.items():
            value, _ = term.of_generator(critic, real=real, fake=fake, state=self._memory_of(name), **context)
            values[name] = value
            total = total + term.factor(self.terms.step) * value
        return total, values

    def _settings(self):
        """How the critic's terms are evaluated at this step."""
        return {"states": [self._memory_of(name) for name in self.terms.critic], "step": self.terms.step}

    def _total(self, found):
        loss = self.loss.discriminator(found.real_logits, found.fake_logits)
        total = sum((value for value, _ in found.terms), loss)
        return total, self._values(found, loss)

    def _values(self, found, loss):
        """The numbers to log. found: what has real_logits, fake_logits and terms."""
        values = {"d_loss": loss, "d_real": found.real_logits.mean(), "d_fake": found.fake_logits.mean()}
        for name, (value, diagnostics) in zip(self.terms.critic, found.terms, strict=True):
            values[name] = value
            values |= {f"{name}_{key}": number for key, number in diagnostics.items()}
        return values

    def _memory_of(self, name):
        return (self.memory or {}).get(name, {})

    def constrain(self, discriminator: nn.Module, when: Literal["before", "after"]) -> None:
        """Constraints on the critic's weights (weight clipping), "before" or "after" its optimiser's step."""
        for constraint in self.terms.constraints:
            if constraint.when == when:
                constraint.apply_(discriminator)
