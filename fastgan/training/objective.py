"""What the two networks minimise: an adversarial loss and, for the critic, any number of penalties."""

from typing import NamedTuple

from fastgan import losses


class Objective(NamedTuple):
    """Both methods return the scalar to descend and the numbers to log, as tensors."""

    loss: losses.AdversarialLoss
    penalties: tuple = ()

    def discriminator(self, critic, real, fake):
        real_logits, fake_logits = critic.both(real, fake)
        total = self.loss.discriminator(real_logits, fake_logits)
        values = {"d_loss": total, "d_real": real_logits.mean(), "d_fake": fake_logits.mean()}
        for index, penalty in enumerate(self.penalties):
            value = penalty(critic, real=real, fake=fake)
            values[f"penalty_{index}"] = value
            total = total + value
        return total, values

    def generator(self, critic, fake, real):
        if self.loss.generator_needs_real:
            real_logits, fake_logits = critic.both(real, fake)
            total = self.loss.generator(fake_logits, real_logits)
        else:
            total = self.loss.generator(critic(fake))
        return total, {"g_loss": total}
