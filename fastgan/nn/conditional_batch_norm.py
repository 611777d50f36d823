"""Batch normalisation with a gain and a bias for each class (Dumoulin et al., 2017; de Vries et al., 2017)."""

from torch import nn

from fastgan.nn.norms import BatchNorm2d


class ConditionalBatchNorm2d(BatchNorm2d):
    """x (B, C, H, W), labels (B,) int64 -> (B, C, H, W): (1 + gain[label]) * batch_norm(x) + bias[label].

    num_classes=None: plain batch norm, called without labels.
    Gains and biases start at zero and lie in one embedding, (num_classes, 2 C).
    """

    def __init__(self, num_features, num_classes=None, eps=1e-5, momentum=0.1):
        super().__init__(num_features, eps, momentum, affine=num_classes is None)
        self.gain_and_bias = None
        if num_classes is not None:
            self.gain_and_bias = nn.Embedding(num_classes, 2 * num_features)
            nn.init.zeros_(self.gain_and_bias.weight)

    def forward(self, x, labels=None):
        if (labels is None) != (self.gain_and_bias is None):
            raise ValueError("labels must be given exactly where the layer was made with num_classes")
        if labels is None:
            return super().forward(x)
        gain, bias = self.gain_and_bias(labels).chunk(2, 1)  # (B, C)
        return self.normalize(x, 1 + gain, bias)
