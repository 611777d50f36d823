"""Terms beside the adversarial loss: penalties of the critic, terms of the generator, and the weight clip.

A critic here is a function of samples alone, critic(x) -> logits: a module, or `Critic(discriminator, labels)` for a
discriminator with a condition or several outputs. Every term is a frozen dataclass with explicit `roles`:

    penalty(critic, real=x, fake=y) -> 0-d tensor, weight included, ready for .backward()
    penalty.measure(critic, real=x, fake=y) -> (the same, diagnostics: a dict of detached 0-d tensors)
    evaluate(penalties, critic, x, y) -> all of them and the logits of the loss, from as few passes as possible
    backward(critic, loss, penalties, real=x, fake=y) -> the same, with the critic's gradients by the cheapest route

Terms of the generator (`GENERATOR_TERMS`) are called with real, fake, generator, latents and condition. `generator=` is
a network everywhere; `rng=` is a torch.Generator.
"""

from fastgan.penalties.auxiliary_classifier import AuxiliaryClassifier
from fastgan.penalties.critic import Critic
from fastgan.penalties.evaluate import Evaluation, Prepared, evaluate, evaluate_prepared, initial_states, prepare
from fastgan.penalties.four_passes import Gradients, backward
from fastgan.penalties.generator.conditioning_kl import ConditioningKL
from fastgan.penalties.generator.feature_matching import FeatureMatching
from fastgan.penalties.generator.l1 import L1
from fastgan.penalties.generator.path_length import PathLength
from fastgan.penalties.gradient.dragan import DRAGAN
from fastgan.penalties.gradient.wgan_gp import WGANGP
from fastgan.penalties.gradient.zero_centred import R1, R2
from fastgan.penalties.logits.consistency import Consistency
from fastgan.penalties.logits.critic_drift import CriticDrift
from fastgan.penalties.logits.lecam import LeCam
from fastgan.penalties.orthogonal import OrthogonalRegularization
from fastgan.penalties.penalty import Penalty
from fastgan.penalties.terms import Constraint, GeneratorTerm
from fastgan.penalties.weight_clip import WeightClip

_OF_THE_CRITIC = (
    WGANGP,
    DRAGAN,
    R1,
    R2,
    LeCam,
    Consistency,
    OrthogonalRegularization,
    CriticDrift,
    AuxiliaryClassifier,
)
_OF_THE_GENERATOR = (L1, FeatureMatching, PathLength, AuxiliaryClassifier, ConditioningKL, OrthogonalRegularization)
PENALTIES = {term.__name__: term for term in _OF_THE_CRITIC}
GENERATOR_TERMS = {term.__name__: term for term in _OF_THE_GENERATOR}
CONSTRAINTS = {"WeightClip": WeightClip}

__all__ = [
    "CONSTRAINTS",
    "DRAGAN",
    "GENERATOR_TERMS",
    "L1",
    "PENALTIES",
    "R1",
    "R2",
    "WGANGP",
    "AuxiliaryClassifier",
    "ConditioningKL",
    "Consistency",
    "Constraint",
    "Critic",
    "CriticDrift",
    "Evaluation",
    "FeatureMatching",
    "GeneratorTerm",
    "Gradients",
    "LeCam",
    "OrthogonalRegularization",
    "PathLength",
    "Penalty",
    "Prepared",
    "WeightClip",
    "backward",
    "evaluate",
    "evaluate_prepared",
    "initial_states",
    "prepare",
]
