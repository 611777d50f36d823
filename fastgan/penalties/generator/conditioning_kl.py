"""The term that keeps StackGAN's conditioning augmentation close to N(0, I) (Zhang et al., 2017, section 3.2)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConditioningKL:
    """weight * kl of a generator with `conditioning_kl`, a term of its loss."""

    weight: float = 1.0

    def __call__(self, critic, *, real, fake, generator, latents=None, condition=None):
        labels = condition if condition is not None else critic.condition
        if labels is None or not hasattr(generator, "conditioning_kl"):
            raise TypeError("ConditioningKL needs labels and a class-conditional generator with conditioning_kl")
        return self.weight * generator.conditioning_kl(labels)
