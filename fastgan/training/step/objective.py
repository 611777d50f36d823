"""What the two networks minimise: an adversarial loss, the critic's penalties, the generator's further terms."""

from collections.abc import Callable
from typing import NamedTuple

from fastgan import losses, penalties
from fastgan.nn.pack import pack
from fastgan.penalties import Critic
from fastgan.penalties.terms import CONSTRAINT, CRITIC, GENERATOR, with_role


class Objective(NamedTuple):
    """The recipe's terms at one step. Both methods return the scalar to descend and the numbers to log, as tensors."""

    loss: losses.AdversarialLoss
    penalties: tuple = ()
    generator_terms: tuple = ()
    augment: Callable | None = None
    pack: int = 1
    step: int = 0
    memory: dict | None = None  # of the terms that have one: name -> dict of tensors
    through_samples: bool = False  # penalties keep the graph of the samples
    observe: Callable | None = None  # is called with the logits of real samples, once for each update of the critic

    def critic(self, discriminator, condition=None):
        return Critic(discriminator, pack(condition, self.pack), self.augment, self.pack)

    def discriminator(self, critic, real, fake):
        total, values, _ = self.judge(critic, real, fake)
        return total, values

    def judge(self, critic, real, fake):
        """(total, values, logits of the real samples)"""
        terms = with_role(self.penalties, CRITIC)
        states = [self._memory_of(name) for name in terms]
        settings = {"states": states, "step": self.step, "through_samples": self.through_samples}
        found = penalties.evaluate(terms.values(), critic, real, fake, **settings)
        return *self._total(terms, found), found.real_logits.detach()

    def of_prepared(self, critic, prepared, states=None):
        """The critic's loss when its inputs are prepared: what torch.compile can take as one graph."""
        terms = with_role(self.penalties, CRITIC)
        return self._total(terms, penalties.evaluate_prepared(tuple(terms.values()), critic, prepared, states=states))

    def generator(self, critic, fake, real, **context):
        """context: what further terms may need: generator, latents, condition."""
        if self.loss.generator_needs_real:
            real_logits, fake_logits = critic.both(real, fake)
            total = self.loss.generator(fake_logits, real_logits)
        else:
            total = self.loss.generator(critic(fake))
        values = {"g_loss": total}
        for name, term in with_role(self.generator_terms, GENERATOR).items():
            if term.is_due(self.step):
                value, _ = term.of_generator(critic, real=real, fake=fake, state=self._memory_of(name), **context)
                values[name] = value
                total = total + term.factor(self.step) * value
        return total, values

    def _total(self, terms, found):
        total = self.loss.discriminator(found.real_logits, found.fake_logits)
        values = {"d_loss": total, "d_real": found.real_logits.mean(), "d_fake": found.fake_logits.mean()}
        for name, term in zip(terms, found.terms, strict=True):
            if term is not None:  # a lazy one in a step without it
                value, diagnostics = term
                values[name] = value
                values |= {f"{name}_{key}": number for key, number in diagnostics.items()}
                total = total + value
        return total, values

    def _memory_of(self, name):
        return (self.memory or {}).get(name, {})

    def constrain(self, discriminator, when):
        """Constraints on the critic's weights (weight clipping), "before" or "after" its optimiser's step."""
        for constraint in with_role(self.penalties, CONSTRAINT).values():
            if constraint.when == when and constraint.is_due(self.step):
                constraint.apply_(discriminator)
