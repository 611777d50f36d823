"""What the two networks minimise: an adversarial loss, the critic's penalties, the generator's further terms."""

from collections.abc import Callable
from typing import NamedTuple

from fastgan import losses, penalties
from fastgan.penalties.critic import Critic, pack
from fastgan.penalties.terms import named


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
    observe: Callable | None = None  # told the logits of real samples, once for each update of the critic

    def critic(self, discriminator, condition=None):
        return Critic(discriminator, pack(condition, self.pack), self.augment, self.pack)

    def discriminator(self, critic, real, fake):
        terms = self._terms(self.penalties)
        states = [self._memory_of(name) for name in terms]
        settings = {"states": states, "step": self.step, "through_samples": self.through_samples}
        found = penalties.evaluate(terms.values(), critic, real, fake, **settings)
        if self.observe is not None:
            self.observe(found.real_logits)
        return self._total(terms, found)

    def of_prepared(self, critic, prepared, states=None):
        """The critic's loss where its inputs are prepared: what torch.compile can take as one graph."""
        terms = self._terms(self.penalties)
        return self._total(terms, penalties.evaluate_prepared(tuple(terms.values()), critic, prepared, states=states))

    def generator(self, critic, fake, real, **context):
        """context: what further terms may ask for: generator, latents, condition."""
        if self.loss.generator_needs_real:
            real_logits, fake_logits = critic.both(real, fake)
            total = self.loss.generator(fake_logits, real_logits)
        else:
            total = self.loss.generator(critic(fake))
        values = {"g_loss": total}
        for name, term in self._terms(self.generator_terms).items():
            every = getattr(term, "every", 1)
            if self.step % every:
                continue
            if hasattr(term, "of"):  # of the weights alone
                value = term.of(context["generator"])
            else:
                state = {"state": memory} if (memory := self._memory_of(name)) else {}
                value = term(critic, real=real, fake=fake, **context, **state)
            values[name] = value
            total = total + every * value
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

    def _terms(self, terms):
        return {name: term for name, term in named(terms) if not hasattr(term, "apply_")}

    def _memory_of(self, name):
        return (self.memory or {}).get(name, {})

    def constrain(self, discriminator, when):
        """Constraints on the critic's weights (weight clipping), "before" or "after" its optimiser's step."""
        for penalty in self.penalties:
            if hasattr(penalty, "apply_") and penalty.when == when:
                penalty.apply_(discriminator)
