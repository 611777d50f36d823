"""What the two networks minimise: an adversarial loss, the critic's penalties, the generator's further terms."""

from collections.abc import Callable
from typing import NamedTuple

from fastgan import losses, penalties
from fastgan.nn.pack import pack
from fastgan.penalties import Critic
from fastgan.penalties.terms import CONSTRAINT, CRITIC, GENERATOR, with_role


class Objective(NamedTuple):
    """The recipe's terms at one step. A loss is returned as the scalar to descend and the numbers to log."""

    loss: losses.AdversarialLoss
    penalties: tuple = ()
    generator_terms: tuple = ()
    augment: Callable | None = None
    pack: int = 1
    step: int = 0
    memory: dict | None = None  # of the terms that have one: name -> dict of tensors
    through_samples: bool = False  # penalties keep the graph of the samples
    observe: Callable | None = None  # is called with the logits of real samples, once for each update of the critic
    on_gradients: Callable | None = None  # is called with the penalties.Gradients of each batch of the critic

    def critic(self, discriminator, condition=None):
        return Critic(discriminator, pack(condition, self.pack), self.augment, self.pack)

    def discriminator(self, critic, real, fake):
        """(total, values), with autograd's graph."""
        terms, settings = self._of_critic()
        found = penalties.evaluate(terms.values(), critic, real, fake, through_samples=self.through_samples, **settings)
        return self._total(terms, found)

    def add_discriminator_gradients(self, critic, real, fake, share=1.0, keep_fake_gradient=False):
        """Adds share times the gradients to the critic's parameters. -> (values, penalties.Gradients)"""
        terms, settings = self._of_critic()
        found = penalties.backward(
            critic,
            self.loss,
            terms.values(),
            real=real,
            fake=fake,
            share=share,
            keep_fake_gradient=keep_fake_gradient,
            **settings,
        )
        if self.on_gradients is not None:
            self.on_gradients(found)
        return self._values(terms, found, found.loss), found

    def of_prepared(self, critic, prepared, states=None):
        """The critic's loss when its inputs are prepared: what torch.compile can take as one graph."""
        terms = with_role(self.penalties, CRITIC)
        return self._total(terms, penalties.evaluate_prepared(tuple(terms.values()), critic, prepared, states=states))

    @property
    def generator_is_adversarial(self):
        """Whether the generator's gradient is that of the adversarial loss at the critic's own inputs, and no more."""
        return not with_role(self.generator_terms, GENERATOR) and self.augment is None

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

    def _of_critic(self):
        """The critic's terms by name, and how they are evaluated at this step."""
        terms = with_role(self.penalties, CRITIC)
        return terms, {"states": [self._memory_of(name) for name in terms], "step": self.step}

    def _total(self, terms, found):
        loss = self.loss.discriminator(found.real_logits, found.fake_logits)
        total = sum((term[0] for term in found.terms if term is not None), loss)
        return total, self._values(terms, found, loss)

    def _values(self, terms, found, loss):
        """The numbers to log. found: what has real_logits, fake_logits and terms."""
        values = {"d_loss": loss, "d_real": found.real_logits.mean(), "d_fake": found.fake_logits.mean()}
        for name, term in zip(terms, found.terms, strict=True):
            if term is not None:  # a lazy one in a step without it
                value, diagnostics = term
                values[name] = value
                values |= {f"{name}_{key}": number for key, number in diagnostics.items()}
        return values

    def _memory_of(self, name):
        return (self.memory or {}).get(name, {})

    def constrain(self, discriminator, when):
        """Constraints on the critic's weights (weight clipping), "before" or "after" its optimiser's step."""
        for constraint in with_role(self.penalties, CONSTRAINT).values():
            if constraint.when == when and constraint.is_due(self.step):
                constraint.apply_(discriminator)
