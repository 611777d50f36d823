"""The last layer of a critic."""

from torch import nn


class ProjectionHead(nn.Module):
    """features (B, F) -> logits (B,): w.h + b, and with labels y: + embedding(y).h (Miyato & Koyama, 2018)."""

    def __init__(self, features, classes, layers):
        super().__init__()
        self.linear = layers.Linear(features, 1)
        self.embedding = layers.Embedding(classes, features) if classes else None

    def forward(self, features, labels=None):
        logits = self.linear(features).squeeze(1)
        return logits if labels is None else logits + (self.embedding(labels) * features).sum(1)
