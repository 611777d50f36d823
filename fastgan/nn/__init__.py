"""Drop-in layers on the ops; no maths of their own."""

from fastgan.nn.bias_act import BiasAct
from fastgan.nn.conditional_batch_norm import ConditionalBatchNorm2d
from fastgan.nn.conversion.convert import convert
from fastgan.nn.conversion.to_torch import to_torch
from fastgan.nn.equalized import EqualizedConv2d, EqualizedEmbedding, EqualizedLinear
from fastgan.nn.maxout import Maxout
from fastgan.nn.minibatch_stddev import MinibatchStdDev
from fastgan.nn.norms import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    synchronize_batch_norm,
)
from fastgan.nn.pack import Pack
from fastgan.nn.pixel_norm import PixelNorm
from fastgan.nn.self_attention import SelfAttention2d
from fastgan.nn.spectral.convert import convert_spectral_norm
from fastgan.nn.spectral.fuse import fuse_spectral_norm, unfuse_spectral_norm
from fastgan.nn.spectral.layers import (
    SNConv1d,
    SNConv2d,
    SNConv3d,
    SNConvTranspose1d,
    SNConvTranspose2d,
    SNConvTranspose3d,
    SNEmbedding,
    SNLinear,
)
from fastgan.nn.spectral.load_state import load_spectral_norm_state
from fastgan.nn.spectral.parametrization import spectral_norm

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "BiasAct",
    "ConditionalBatchNorm2d",
    "EqualizedConv2d",
    "EqualizedEmbedding",
    "EqualizedLinear",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "Maxout",
    "MinibatchStdDev",
    "Pack",
    "PixelNorm",
    "SNConv1d",
    "SNConv2d",
    "SNConv3d",
    "SNConvTranspose1d",
    "SNConvTranspose2d",
    "SNConvTranspose3d",
    "SNEmbedding",
    "SNLinear",
    "SelfAttention2d",
    "convert",
    "convert_spectral_norm",
    "fuse_spectral_norm",
    "load_spectral_norm_state",
    "spectral_norm",
    "synchronize_batch_norm",
    "to_torch",
    "unfuse_spectral_norm",
]
