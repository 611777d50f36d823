"""The term that keeps StackGAN's conditioning augmentation close to N(0, I) (Zhang et al., 2017, section 3.2)."""

from dataclasses import dataclass

from fastgan.penalties.terms import GeneratorTerm


@dataclass(frozen=True)
class ConditioningKL(GeneratorTerm):
    """weight * generator.conditioning_kl(labels). The labels are `condition`, or the critic's. Diagnostics: "kl".

    Errors: TypeError without labels, or for a generator without `conditioning_kl`.
    """

    weight: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self._require("weight")

    def measure(
        self, critic=None, *, real=None, fake=None, generator=None, latents=None, condition=None, state=None, rng=None
    ):
        labels = condition if condition is not None else getattr(critic, "condition", None)
        if labels is None or not hasattr(generator, "conditioning_kl"):
            raise TypeError("ConditioningKL needs labels and a class-conditional generator with conditioning_kl")
        kl = generator.conditioning_kl(labels)
        return self.weight * kl, {"kl": kl.detach()}
