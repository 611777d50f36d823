"""A trained network for a place without fastgan: the same numbers by torch's own operations."""

import copy
from typing import Any, cast

import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from fastgan import ops
from fastgan.nn import norms
from fastgan.nn.bias_act import BiasAct
from fastgan.nn.conditional_batch_norm import ConditionalBatchNorm2d
from fastgan.nn.self_attention import SelfAttention2d
from fastgan.nn.spectral import layers
from fastgan.nn.spectral.fuse import unfuse_spectral_norm
from fastgan.nn.spectral.parametrization import SpectralNorm


def to_torch(model: nn.Module) -> nn.Module:
    """A copy of the model for evaluation, without fastgan's ops, for torch.onnx, torch.export, torch.jit.

    Spectral norm is computed once: the weight is W / sigma, under the name "weight". Its layers, and the
    norms, become torch.nn's classes. BiasAct, SelfAttention2d and ConditionalBatchNorm2d keep their names and states,
    and run on torch.nn.functional. The numbers are those of model.eval() to rounding. The model itself does not change.

    A module that calls fastgan.ops in its forward (those of "r3gan" and "progressive" do) still calls it under
    torch.export. torch.onnx.export and torch.jit.trace record torch's operations for such calls too.
    """
    plain = copy.deepcopy(model).eval()
    for module in plain.modules():
        unfuse_spectral_norm(module)
    for module in list(plain.modules()):
        if parametrize.is_parametrized(module):
            for name, parametrizations in list(cast(Any, module.parametrizations).items()):
                if all(isinstance(p, SpectralNorm) for p in parametrizations):
                    parametrize.remove_parametrizations(module, name)
        if type(module) in PLAIN:
            module.__class__ = PLAIN[type(module)]
    return plain


class _PlainBiasAct(BiasAct):
    def forward(self, x):
        return ops.bias_act_reference(
            x, self.bias, dim=self.dim, act=self.act, alpha=self.alpha, gain=self.gain, clamp=self.clamp
        )


def _attend(q, k, v, *, scale, similarity):
    mask = None
    if similarity == "l2":  # -scale |q - k|^2, without |q|^2, which softmax does not see
        mask = -scale * k.square().sum(-1)[..., None, :]  # (B, H, 1, M)
        scale = 2 * scale
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


class _PlainSelfAttention2d(SelfAttention2d):
    attend = staticmethod(_attend)  # type: ignore[assignment]  # it has the arguments that the layer gives


class _PlainConditionalBatchNorm2d(ConditionalBatchNorm2d):
    def normalize(self, x, weight, bias):
        own = self.running_mean is None
        x = F.batch_norm(x, self.running_mean, self.running_var, None, None, own, 0.0, self.eps)
        if weight is not None:
            x = x * weight[..., None, None]  # (C, 1, 1) or (N, C, 1, 1)
        return x if bias is None else x + bias[..., None, None]


PLAIN: dict[type, Any] = {
    BiasAct: _PlainBiasAct,
    SelfAttention2d: _PlainSelfAttention2d,
    ConditionalBatchNorm2d: _PlainConditionalBatchNorm2d,
    **{ours: theirs for table in (norms.OF_TORCH, layers.OF_TORCH) for theirs, ours in table.items()},
}
