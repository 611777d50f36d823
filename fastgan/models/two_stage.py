"""A pair in two stages: one network draws a shape, a second one paints on it (FashionGAN and StackGAN, both 2017)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.models.dcgan import Discriminator, dcgan
from fastgan.models.pair import Pair
from fastgan.models.parts.conditioning_augmentation import ConditioningAugmentation
from fastgan.models.parts.initialize import initialize
from fastgan.models.parts.layers import Layers, SpectralNorm, choose
from fastgan.models.parts.resolution import halvings


def two_stage(
    channels: int = 2,
    resolution: int = 28,
    classes: int | None = None,
    width: int = 64,
    z_dim: int = 100,
    spectral_norm: SpectralNorm = "discriminator",
    pack: int = 1,
    stage_one: nn.Module | None = None,
    train_stage_one: bool | None = None,
    residual: bool = False,
) -> Pair:
    """The pair for samples (channels, resolution, resolution): first the channels of a shape, then those of an image.

    stage_one: a trained generator of shapes, with z_dim, classes and shape. None: a new dcgan for one channel.
    train_stage_one: whether stage I is trained. The default is True for a new stage I and False for a given one.
    z_dim: of stage II. The generator's z_dim is the sum of both stages'.
    residual, width: see StageTwo.
    The discriminator is dcgan's. It judges shape and image together.
    """
    layers, for_discriminator = choose(spectral_norm)
    new = stage_one is None
    first: Any = dcgan(1, resolution, classes, width, z_dim, spectral_norm).generator if new else stage_one
    shape_channels = first.shape[0]
    if channels <= shape_channels:
        raise ValueError(f"channels must be more than the shape's {shape_channels}, got {channels}")
    image = (channels - shape_channels, resolution, resolution)
    stage_two = StageTwo(first.shape, image, classes, width, z_dim, layers, residual)
    discriminator = Discriminator(channels, resolution, classes, width, for_discriminator, pack)
    for network in (stage_two, discriminator):
        initialize(network, partial(nn.init.normal_, std=0.02))
    if residual:
        nn.init.zeros_(stage_two.to_image.weight)
    return Pair(TwoStageGenerator(first, stage_two, new if train_stage_one is None else train_stage_one), discriminator)


class TwoStageGenerator(nn.Module):
    """z (B, z_dim of both) -> (B, C_shape + C_image, H, W): the shape from stage I, enlarged, and the image.

    With train_stage_one=False stage I gets no gradients and stays in evaluation mode.
    """

    stage_one: Any  # a module with z_dim, classes and shape

    def __init__(self, stage_one: nn.Module, stage_two: "StageTwo", train_stage_one: bool = False) -> None:
        super().__init__()
        self.stage_one, self.stage_two, self.train_stage_one = stage_one, stage_two, train_stage_one
        self.z_dim, self.classes = self.stage_one.z_dim + stage_two.z_dim, stage_two.classes
        channels, *size = stage_two.shape
        self.shape = (self.stage_one.shape[0] + channels, *size)
        if not train_stage_one:
            stage_one.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "TwoStageGenerator":
        super().train(mode)
        if not self.train_stage_one:
            self.stage_one.eval()
        return self

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        z_one, z_two = z.split([self.stage_one.z_dim, self.stage_two.z_dim], 1)
        condition = () if labels is None else (labels,)
        with torch.set_grad_enabled(self.train_stage_one and torch.is_grad_enabled()):
            shape = self.stage_one(z_one, *(condition if self.stage_one.classes else ()))
        image = self.stage_two(shape, z_two, *condition)
        return torch.cat([enlarged(shape, self.shape[1:]), image], 1)

    def conditioning_kl(self, labels: torch.Tensor) -> torch.Tensor:
        """The KL term of stage II's conditioning augmentation, 0-d. labels: int64 (B,)."""
        return self.stage_two.augmentation.kl(self.stage_two.embedding(labels))


class StageTwo(nn.Module):
    """shape (B, C', h, w), z -> image (B, C, H, W): down to a quarter, concatenation with z, two blocks, up again.

    residual: the image is the enlarged shape plus the network's output, which is 0 at first. Otherwise the image is the
        tanh of the output.
    classes: z is joined by an embedding of the label, through conditioning augmentation.
    width: channels of the outer layers.
    """

    embedding: Any  # None without classes
    augmentation: Any  # None without classes

    def __init__(
        self,
        shape_of_one: tuple[int, ...],
        shape: tuple[int, ...],
        classes: int | None,
        width: int,
        z_dim: int,
        layers: Layers,
        residual: bool,
    ) -> None:
        super().__init__()
        halvings(shape[1])  # raises if the resolution cannot be halved
        quarters = shape[1] % 4 == 0
        before = shape_of_one[0]
        if residual and before not in (1, shape[0]):
            raise ValueError(f"stage I must have 1 or {shape[0]} channels when residual=True, got {before}")
        self.z_dim, self.classes, self.shape, self.residual = z_dim, classes, shape, residual
        self.embedding = nn.Embedding(classes, z_dim) if classes else None
        self.augmentation = ConditioningAugmentation(z_dim, z_dim) if classes else None
        downs = [norm_relu(layers.Conv2d(before, width, 3, padding=1, bias=False), width)]
        downs.append(norm_relu(layers.Conv2d(width, 2 * width, 4, 2, 1, bias=False), 2 * width))
        if quarters:
            downs.append(norm_relu(layers.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False), 4 * width))
        inner = (4 if quarters else 2) * width
        self.down = nn.Sequential(*downs)
        self.join = norm_relu(
            layers.Conv2d(inner + z_dim * (2 if classes else 1), inner, 3, padding=1, bias=False), inner
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                norm_relu(layers.Conv2d(inner, inner, 3, padding=1, bias=False), inner),
                layers.Conv2d(inner, inner, 3, padding=1, bias=False),
                nn.BatchNorm2d(inner),
            )
            for _ in range(2)
        )
        ups = []
        while inner > width:
            ups.append(norm_relu(layers.ConvTranspose2d(inner, inner // 2, 4, 2, 1, bias=False), inner // 2))
            inner //= 2
        self.up = nn.Sequential(*ups)
        self.to_image = (nn if residual else layers).Conv2d(
            width, shape[0], 3, padding=1
        )  # no spectral norm: may start at 0

    def forward(self, shape: torch.Tensor, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        shape = enlarged(shape, self.shape[1:])
        if self.embedding is not None:
            z = torch.cat([z, self.augmentation(self.embedding(labels))], 1)
        x = self.down(shape)
        x = self.join(torch.cat([x, z[:, :, None, None].expand(*z.shape, *x.shape[2:])], 1))
        for block in self.blocks:
            x = F.relu(x + block(x))
        paint = self.to_image(self.up(x))
        return shape + paint if self.residual else torch.tanh(paint)


def norm_relu(layer: nn.Module, channels: int) -> nn.Sequential:
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.ReLU())


def enlarged(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return x if x.shape[2:] == torch.Size(size) else F.interpolate(x, size=tuple(size), mode="nearest")
