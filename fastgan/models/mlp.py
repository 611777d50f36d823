"""Fully connected pairs, for points and for small images."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from fastgan.models.pair import Pair
from fastgan.models.parts.initialize import initialize
from fastgan.models.parts.layers import Layers, SpectralNorm, choose
from fastgan.models.parts.projection_head import ProjectionHead
from fastgan.nn.maxout import maxout

# `preset` names the hidden layers of a published toy experiment.
PRESETS: dict[str | None, dict[str, Any]] = {
    None: {},
    # Lin et al., 2018, 2D-grid and ring.
    "pacgan": {
        "z_dim": 2,
        "width": 400,
        "depth": 4,
        "batch_norm": True,
        "critic_width": 200,
        "critic_depth": 3,
        "critic_activation": "maxout",
        "init": "paper",
    },
    # Metz et al., 2017, the published notebook's ring.
    "unrolled": {"z_dim": 256, "width": 128, "depth": 2, "activation": "tanh", "init": "orthogonal"},
    # Gulrajani et al., 2017, the toys of the published code.
    "wgan_gp": {"z_dim": 2, "width": 512, "depth": 3},
}
DEFAULTS: dict[str, Any] = {
    "z_dim": 2,
    "width": 512,
    "depth": 3,
    "activation": "relu",
    "batch_norm": False,
    "init": "he",
}
PIECES = 5  # of a maxout unit
INITS: dict[str, Callable[[torch.Tensor], object]] = {
    "paper": partial(nn.init.normal_, std=0.02),  # PacGAN's
    "he": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "orthogonal": partial(nn.init.orthogonal_, gain=1.4),  # the unrolled GAN's
    "xavier": nn.init.xavier_uniform_,  # the default of Keras
}


def mlp(
    channels: int | None = None,
    resolution: int | None = None,
    classes: int | None = None,
    width: int | None = None,
    z_dim: int | None = None,
    spectral_norm: SpectralNorm = "none",
    pack: int = 1,
    features: int | None = None,
    preset: str | None = None,
    depth: int | None = None,
    activation: str | None = None,
    batch_norm: bool | None = None,
    init: str | None = None,
    critic_width: int | None = None,
    critic_depth: int | None = None,
    critic_activation: str | None = None,
) -> Pair:
    """The pair for vectors (features,) or images (channels, resolution, resolution). Images end in a tanh.

    width, depth: units of a hidden layer, and number of hidden layers.
    activation: "relu", "tanh" or "maxout" (of 5 pieces).
    batch_norm: in the generator only. Its hidden layers then have no bias.
    init: "he", "xavier", "paper" (N(0, 0.02^2)) or "orthogonal" (gain 1.4). Biases are 0.
    critic_width, critic_depth, critic_activation: the discriminator's. The default is the generator's value.
    preset: "pacgan", "unrolled" or "wgan_gp", the toy networks of these papers. Other arguments override the preset.
    classes: z is joined by an embedding of the label. The discriminator projects on another embedding.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(filter(None, PRESETS))}; got {preset!r}")
    given = {
        "width": width,
        "z_dim": z_dim,
        "depth": depth,
        "activation": activation,
        "batch_norm": batch_norm,
        "init": init,
        "critic_width": critic_width,
        "critic_depth": critic_depth,
        "critic_activation": critic_activation,
    }
    s = DEFAULTS | PRESETS[preset] | {key: value for key, value in given.items() if value is not None}
    if s["init"] not in INITS:
        raise ValueError(f"init must be one of {', '.join(INITS)}; got {s['init']!r}")
    shape: tuple[int, ...]
    if features is None and channels is not None and resolution is not None:
        shape = (channels, resolution, resolution)
    elif features is not None and (channels is None or resolution is None):
        shape = (features,)
    else:
        raise ValueError(
            "mlp needs either features= (vectors) or channels= and resolution= (images), not both; got "
            f"features={features}, channels={channels}, resolution={resolution}"
        )
    for_generator, for_discriminator = choose(spectral_norm)
    own = {key: s[key] for key in ("width", "depth", "activation")}
    critics = {key: s.get(f"critic_{key}", value) for key, value in own.items()}
    pair = Pair(
        Generator(shape, classes, s["z_dim"], **own, batch_norm=s["batch_norm"], layers=for_generator),
        Discriminator(shape, classes, **critics, layers=for_discriminator, pack=pack),
    )
    for network in pair:
        initialize(network, INITS[s["init"]])
    return pair


class Generator(nn.Module):
    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int | None,
        z_dim: int,
        width: int,
        depth: int,
        activation: str,
        batch_norm: bool,
        layers: Layers,
    ) -> None:
        super().__init__()
        self.z_dim, self.classes, self.shape = z_dim, classes, shape
        self.embedding = nn.Embedding(classes, z_dim) if classes else None  # N(0, 1), as z
        before = z_dim * (2 if classes else 1)
        self.hidden = hidden(before, width, depth, activation, layers, batch_norm)
        self.last = nn.Sequential(layers.Linear(width, math.prod(shape)), nn.Unflatten(1, shape))
        if len(shape) == 3:
            self.last.append(nn.Tanh())

    def forward(self, z: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], 1)
        return self.last(self.hidden(z))


class Discriminator(nn.Module):
    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int | None,
        width: int,
        depth: int,
        activation: str,
        layers: Layers,
        pack: int,
    ) -> None:
        super().__init__()
        self.hidden = hidden(pack * math.prod(shape), width, depth, activation, layers)
        self.head = ProjectionHead(width, classes, layers, pack)

    def forward(self, x: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        return self.head(self.hidden(x.flatten(1)), labels)


def hidden(
    before: int, width: int, depth: int, activation: str, layers: Layers, batch_norm: bool = False
) -> nn.Sequential:
    if activation not in ("relu", "tanh", "maxout"):
        raise ValueError(f'activation must be "relu", "tanh" or "maxout", got {activation!r}')
    pieces = PIECES if activation == "maxout" else 1
    modules: list[nn.Module] = []
    for _ in range(depth):
        modules.append(layers.Linear(before, width * pieces, bias=not batch_norm))
        if batch_norm:
            modules.append(nn.BatchNorm1d(width * pieces, momentum=0.05))  # PacGAN's
        modules.append({"relu": nn.ReLU, "tanh": nn.Tanh, "maxout": Largest}[activation]())
        before = width
    return nn.Sequential(*modules)


class Largest(nn.Module):
    """(B, width * 5) -> (B, width): nn's maxout after a layer of the pair's own kind."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return maxout(x, PIECES)
