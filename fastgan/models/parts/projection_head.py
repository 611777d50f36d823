"""The last layer of a discriminator, with labels."""

from typing import Literal, get_args

import torch
from torch import nn

from fastgan.models.parts.layers import Layers

Head = Literal["projection", "auxiliary"]
HEADS = get_args(Head)


def make_head(
    head: Head, features: int, classes: int | None, layers: Layers, pack: int = 1
) -> "ProjectionHead | AuxiliaryHead":
    if head not in HEADS:
        raise ValueError(f"head must be one of {', '.join(HEADS)}; got {head!r}")
    if head == "auxiliary":
        if not classes:
            raise ValueError(f"classes must be a positive integer with head='auxiliary', got {classes!r}")
        return AuxiliaryHead(features, classes, layers, pack)
    return ProjectionHead(features, classes, layers, pack)


class ProjectionHead(nn.Module):
    """features (B, F) -> logits (B,): w.h + b, and with labels y: + embedding(y).h (Miyato & Koyama, 2018).

    A discriminator of packs takes labels (B, pack). Each place in a pack has its own embedding.
    """

    def __init__(self, features: int, classes: int | None, layers: Layers, pack: int = 1) -> None:
        super().__init__()
        self.linear = layers.Linear(features, 1)
        self.embedding = layers.Embedding(pack * classes, features) if classes else None
        self.classes, self.pack = classes or 0, pack

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        logits = self.linear(features).squeeze(1)
        if labels is None:
            return logits
        if self.embedding is None:
            raise ValueError("labels must be None: this discriminator has no classes")
        if self.pack == 1:
            return logits + (self.embedding(labels) * features).sum(1)
        if labels.shape != (len(features), self.pack):
            raise ValueError(f"labels must have shape ({len(features)}, {self.pack}), got {tuple(labels.shape)}")
        places = torch.arange(self.pack, device=labels.device) * self.classes
        return logits + (self.embedding(labels + places).sum(1) * features).sum(1)


class AuxiliaryHead(nn.Module):
    """features (B, F) -> logits (B,) of real or fake. `classify` returns logits of the classes (Odena et al., 2017).

    classify(features) -> (B, classes), or (B, classes, pack): the shapes that F.cross_entropy takes.
    """

    def __init__(self, features: int, classes: int, layers: Layers, pack: int = 1) -> None:
        super().__init__()
        self.linear = layers.Linear(features, 1)
        self.classifier = layers.Linear(features, pack * classes)
        self.classes, self.pack = classes, pack

    def forward(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return self.linear(features).squeeze(1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        logits = self.classifier(features)
        return logits if self.pack == 1 else logits.unflatten(1, (self.classes, self.pack))


class HeadedDiscriminator(nn.Module):
    """x, labels -> head(represent(x), labels). `represent` returns features (B, F), `head` comes from `make_head`."""

    head: ProjectionHead | AuxiliaryHead

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None, classify: bool = False) -> torch.Tensor:
        features = self.represent(x)
        if not classify:
            return self.head(features, labels)
        if not isinstance(self.head, AuxiliaryHead):
            raise AttributeError(
                "the discriminator has no auxiliary head to classify with: create the pair with head='auxiliary'"
            )
        return self.head.classify(features)

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of the classes. The head must be an auxiliary one."""
        return self(x, classify=True)  # the module's call normalises all weights at once
