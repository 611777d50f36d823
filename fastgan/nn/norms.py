"""torch's normalisation layers on the ops: its arguments, its state_dict, its running statistics, and a fast second
derivative."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fastgan import ops

if TYPE_CHECKING:  # what each norm below has beside its mixin
    from torch.nn.modules.batchnorm import _BatchNorm as _TorchBatchNorm
    from torch.nn.modules.instancenorm import _InstanceNorm as _TorchInstanceNorm
else:
    _TorchBatchNorm = _TorchInstanceNorm = object


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm on `fastgan.ops.group_norm`: (N, C, ...) -> the same.

    Half-precision x beside float32 weights keeps its dtype (torch's layer, under autocast, returns float32).
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm(nn.LayerNorm):
    """torch.nn.LayerNorm on `fastgan.ops.layer_norm`: (..., *normalized_shape) -> the same; dtypes as GroupNorm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class _InstanceNorm(_TorchInstanceNorm):
    def _apply_instance_norm(self, x):
        own = self.training or not self.track_running_stats
        momentum: Any = 0.0 if self.momentum is None else self.momentum
        return ops.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, own, momentum, self.eps
        )


class InstanceNorm1d(_InstanceNorm, nn.InstanceNorm1d):
    """torch.nn.InstanceNorm1d on `fastgan.ops.instance_norm`: (N, C, L) or (C, L); dtypes as GroupNorm."""


class InstanceNorm2d(_InstanceNorm, nn.InstanceNorm2d):
    """torch.nn.InstanceNorm2d on `fastgan.ops.instance_norm`: (N, C, H, W) or (C, H, W); dtypes as GroupNorm."""


class InstanceNorm3d(_InstanceNorm, nn.InstanceNorm3d):
    """torch.nn.InstanceNorm3d on `fastgan.ops.instance_norm`: (N, C, D, H, W) or (C, D, H, W); dtypes as GroupNorm."""


class _BatchNorm(_TorchBatchNorm):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.normalize(x, self.weight, self.bias)

    def normalize(self, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        """With weight and bias from elsewhere: (C,), or (N, C) for one of each sample."""
        self._check_input_dim(x)
        momentum: Any = 0.0 if self.momentum is None else self.momentum
        tracks = self.training and self.track_running_stats
        if tracks and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None and self.running_mean is not None:
                momentum = self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()
        given = (self.running_mean, self.running_var) if tracks or not self.training else (None, None)
        own = self.training or self.running_mean is None
        if own and x.numel() == 0:  # no sample: no statistics, and gradients of zero
            return sum((x * t.sum() for t in (weight, bias) if t is not None), x.clone())
        return ops.batch_norm(x, *given, weight, bias, own, momentum, self.eps)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """torch.nn.BatchNorm1d on `fastgan.ops.batch_norm`: (N, C) or (N, C, L); the rest as BatchNorm2d."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """torch.nn.BatchNorm2d on `fastgan.ops.batch_norm`: (N, C, H, W) -> the same; dtypes as GroupNorm.

    momentum=None averages over all batches with equal weight. The host does not read the counter, so that it compiles.
    An empty batch is returned unchanged and moves no statistics.
    """


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """torch.nn.BatchNorm3d on `fastgan.ops.batch_norm`: (N, C, D, H, W) -> the same; the rest as BatchNorm2d."""


OF_TORCH = {
    getattr(nn, ours.__name__): ours
    for ours in (
        GroupNorm,
        LayerNorm,
        InstanceNorm1d,
        InstanceNorm2d,
        InstanceNorm3d,
        BatchNorm1d,
        BatchNorm2d,
        BatchNorm3d,
    )
}
