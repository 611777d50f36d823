"""Batch normalisation with a gain and a bias for each class (Dumoulin et al., 2017; de Vries et al., 2017)."""

import torch
from torch import nn

from fastgan.nn.norms import BatchNorm2d


class ConditionalBatchNorm2d(BatchNorm2d):
    """x (B, C, H, W), labels (B,) int64 -> (B, C, H, W): (1 + gain[label]) * batch_norm(x) + bias[label].

    num_classes=None: plain batch norm, called without labels.
    Gains and biases start at zero, in one embedding (num_classes, 2 C).
    """

    def __init__(
        self, num_features: int, num_classes: int | None = None, eps: float = 1e-5, momentum: float | None = 0.1
    ) -> None:
        super().__init__(num_features, eps, momentum, affine=num_classes is None)
        self.gain_and_bias = None
        if num_classes is not None:
            self.gain_and_bias = nn.Embedding(num_classes, 2 * num_features)
            nn.init.zeros_(self.gain_and_bias.weight)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        if (labels is None) != (self.gain_and_bias is None):
            raise ValueError("labels must be given exactly where the layer was made with num_classes")
        if labels is None or self.gain_and_bias is None:
            return super().forward(x)
        gain, bias = self.gain_and_bias(labels).chunk(2, 1)  # (B, C)
        return self.normalize(x, 1 + gain, bias)
