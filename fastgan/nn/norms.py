"""torch's normalisation layers on the ops: its arguments, its state_dict, its running statistics, and a fast second
derivative."""

from torch import nn

from fastgan import ops


class GroupNorm(nn.GroupNorm):
    """torch.nn.GroupNorm on `fastgan.ops.group_norm`: (N, C, ...) -> the same.

    Half-precision x beside float32 weights keeps its dtype (torch's layer, under autocast, returns float32).
    """

    def forward(self, x):
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class LayerNorm(nn.LayerNorm):
    """torch.nn.LayerNorm on `fastgan.ops.layer_norm`: (..., *normalized_shape) -> the same; dtypes as GroupNorm."""

    def forward(self, x):
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class InstanceNorm2d(nn.InstanceNorm2d):
    """torch.nn.InstanceNorm2d on `fastgan.ops.instance_norm`: (N, C, H, W) or (C, H, W); dtypes as GroupNorm."""

    def _apply_instance_norm(self, x):
        own = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        return ops.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, own, momentum, self.eps
        )


class BatchNorm2d(nn.BatchNorm2d):
    """torch.nn.BatchNorm2d on `fastgan.ops.batch_norm`: (N, C, H, W) -> the same; dtypes as GroupNorm.

    momentum=None averages over all batches with equal weight, without a look at the counter from the host: it compiles.
    """

    def forward(self, x):
        return self.normalize(x, self.weight, self.bias)

    def normalize(self, x, weight, bias):
        """With weight and bias from elsewhere: (C,), or (N, C) for one of each sample."""
        self._check_input_dim(x)
        momentum = 0.0 if self.momentum is None else self.momentum
        tracks = self.training and self.track_running_stats
        if tracks and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                momentum = self.num_batches_tracked.to(self.running_mean.dtype).reciprocal()
        given = (self.running_mean, self.running_var) if tracks or not self.training else (None, None)
        own = self.training or self.running_mean is None
        return ops.batch_norm(x, *given, weight, bias, own, momentum, self.eps)
