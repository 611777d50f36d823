"""The ops: functional, twice differentiable, one file per family."""

import fastgan._library  # noqa: F401  (the compiled ops must be there before their derivatives are registered)
from fastgan.ops.attention import attention, attention_jvp, attention_reference, scaled_dot_product_attention
from fastgan.ops.bias_act import bias_act, bias_act_reference
from fastgan.ops.grad_norm_penalty import grad_norm_penalty, grad_norm_penalty_reference
from fastgan.ops.normalize import batch_norm, group_norm, instance_norm, layer_norm, normalize_reference
from fastgan.ops.spectral_norm import spectral_norm, spectral_norm_reference

__all__ = [
    "attention",
    "attention_jvp",
    "attention_reference",
    "batch_norm",
    "bias_act",
    "bias_act_reference",
    "grad_norm_penalty",
    "grad_norm_penalty_reference",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "normalize_reference",
    "scaled_dot_product_attention",
    "spectral_norm",
    "spectral_norm_reference",
]
