"""torch's normalisation layers on the ops: its arguments, its state_dict, its running statistics, and a fast second
derivative."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fastgan import ops, processes

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
    synchronized = False  # whether the statistics are those of all processes' batches

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
        if own and self.synchronized and processes.world() > 1:
            return self._over_processes(x, *given, weight, bias, momentum)
        return ops.batch_norm(x, *given, weight, bias, own, momentum, self.eps)

    def _over_processes(self, x, running_mean, running_var, weight, bias, momentum):
        """Autograd's own graph, to any order. All processes have equally many samples."""
        dims = [0, *range(2, x.dim())]
        y = x if x.dtype == torch.float64 else x.float()
        mean = processes.mean(y.mean(dims, keepdim=True))
        deviation = y - mean
        variance = processes.mean(deviation.square().mean(dims, keepdim=True))
        y = deviation * (variance + self.eps).rsqrt()
        if running_mean is not None:
            count = x.numel() // x.shape[1] * processes.world()
            for running, now in ((running_mean, mean), (running_var, variance * (count / max(count - 1, 1)))):
                running.lerp_(now.detach().flatten().to(running.dtype), momentum)
        if weight is not None:
            y = y * weight.view(-1, x.shape[1], *[1] * (x.dim() - 2))
        if bias is not None:
            y = y + bias.view(-1, x.shape[1], *[1] * (x.dim() - 2))
        return y.to(x.dtype)


class BatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """torch.nn.BatchNorm1d on `fastgan.ops.batch_norm`: (N, C) or (N, C, L); the rest as BatchNorm2d."""


class BatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """torch.nn.BatchNorm2d on `fastgan.ops.batch_norm`: (N, C, H, W) -> the same; dtypes as GroupNorm.

    momentum=None averages over all batches with equal weight. The host does not read the counter, so that it compiles.
    An empty batch is returned unchanged and moves no statistics.
    """


class BatchNorm3d(_BatchNorm, nn.BatchNorm3d):
    """torch.nn.BatchNorm3d on `fastgan.ops.batch_norm`: (N, C, D, H, W) -> the same; the rest as BatchNorm2d."""


OF_TORCH: dict[type, Any] = {
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


def synchronize_batch_norm(network: nn.Module) -> nn.Module:
    """Batch norm with the statistics of all processes' batches, in place. Returns the network.

    The processes are those of torch.distributed, with equally many samples each. Differentiable twice, on a CPU too,
    in plain torch: slower than the fused op. torch's batch norms become fastgan's, with the same state_dict.
    """
    for module in network.modules():
        if type(module) in OF_TORCH and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.__class__ = OF_TORCH[type(module)]
        if isinstance(module, _BatchNorm):
            module.synchronized = True
    return network
