"""The auxiliary classifier's term of either network's loss (AC-GAN, Odena et al., 2017, section 4)."""

from dataclasses import dataclass

from torch.nn.functional import cross_entropy


@dataclass(frozen=True)
class AuxiliaryClassifier:
    """weight * (-E log P(class | x) - E log P(class | G(z))) for the critic, the second half for the generator.

    As a penalty: term(critic, real=, fake=), with the labels as the critic's `condition`. As a term of the generator's
    loss, where `generator` is given, too. The critic's `discriminator` has `classify` (a model with head="auxiliary").
    Derivatives: of the order that the discriminator has. Errors: TypeError where it has no auxiliary head.
    """

    weight: float = 1.0

    def __call__(self, critic, *, real, fake, generator=None, latents=None, condition=None):
        labels = condition if condition is not None else critic.condition
        classify = getattr(critic.discriminator, "classify", None)
        if classify is None or labels is None:
            raise TypeError("an auxiliary classifier needs labels and a discriminator made with head='auxiliary'")
        value = cross_entropy(classify(fake), labels)
        if generator is None:
            value = value + cross_entropy(classify(real), labels)
        return self.weight * value
