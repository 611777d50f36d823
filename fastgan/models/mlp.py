"""Fully connected pairs, for points and for small images."""

import math
from functools import partial

import torch
from torch import nn

from fastgan.models.pair import Pair
from fastgan.models.parts.initialize import initialize
from fastgan.models.parts.layers import choose
from fastgan.models.parts.projection_head import ProjectionHead
from fastgan.nn.maxout import maxout

# Hidden layers of published toy experiments, for which `preset` is short.
PRESETS = {
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
DEFAULTS = {"z_dim": 2, "width": 512, "depth": 3, "activation": "relu", "batch_norm": False, "init": "he"}
PIECES = 5  # of a maxout unit
INITS = {
    "paper": partial(nn.init.normal_, std=0.02),  # PacGAN's
    "he": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "orthogonal": partial(nn.init.orthogonal_, gain=1.4),  # the unrolled GAN's
    "xavier": nn.init.xavier_uniform_,  # the default of Keras
}


def mlp(
    channels=None,
    resolution=None,
    classes=None,
    width=None,
    z_dim=None,
    spectral_norm="none",
    pack=1,
    features=None,
    preset=None,
    depth=None,
    activation=None,
    batch_norm=None,
    init=None,
    critic_width=None,
    critic_depth=None,
    critic_activation=None,
):
    """The pair for vectors (features,) or for images (channels, resolution, resolution), which end in a tanh.

    width, depth: units and number of hidden layers; activation: "relu", "tanh" or "maxout" (of 5 pieces); batch_norm:
    in the generator, whose hidden layers then have no bias; the critic has none. critic_*: where the critic differs.
    init: "he", "xavier", "paper" (N(0, 0.02^2)) or "orthogonal" (gain 1.4); biases are 0. preset: "pacgan",
    "unrolled", "wgan_gp" for those papers' toys; what is given beside it goes before it. classes: an embedding of the
    label joins z, the critic projects on one.
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
    if (features is None) == (channels is None or resolution is None):
        raise ValueError("an mlp needs features=, of vectors, or channels= and resolution=, of images; not both")
    shape = (channels, resolution, resolution) if features is None else (features,)
    for_generator, for_discriminator = choose(spectral_norm)
    own = [s["width"], s["depth"], s["activation"]]
    critics = [s.get(f"critic_{key}", s[key]) for key in ("width", "depth", "activation")]
    pair = Pair(
        Generator(shape, classes, s["z_dim"], *own, s["batch_norm"], for_generator),
        Discriminator(shape, classes, *critics, for_discriminator, pack),
    )
    for network in pair:
        initialize(network, INITS[s["init"]])
    return pair


class Generator(nn.Module):
    def __init__(self, shape, classes, z_dim, width, depth, activation, batch_norm, layers):
        super().__init__()
        self.z_dim, self.classes, self.shape = z_dim, classes, shape
        self.embedding = nn.Embedding(classes, z_dim) if classes else None  # N(0, 1), as z
        before = z_dim * (2 if classes else 1)
        self.hidden = hidden(before, width, depth, activation, layers, batch_norm)
        self.last = nn.Sequential(layers.Linear(width, math.prod(shape)), nn.Unflatten(1, shape))
        if len(shape) == 3:
            self.last.append(nn.Tanh())

    def forward(self, z, labels=None):
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], 1)
        return self.last(self.hidden(z))


class Discriminator(nn.Module):
    def __init__(self, shape, classes, width, depth, activation, layers, pack):
        super().__init__()
        self.hidden = hidden(pack * math.prod(shape), width, depth, activation, layers)
        self.head = ProjectionHead(width, classes, layers, pack)

    def forward(self, x, labels=None):
        return self.head(self.hidden(x.flatten(1)), labels)


def hidden(before, width, depth, activation, layers, batch_norm=False):
    if activation not in ("relu", "tanh", "maxout"):
        raise ValueError(f'activation must be "relu", "tanh" or "maxout", got {activation!r}')
    pieces = PIECES if activation == "maxout" else 1
    modules = []
    for _ in range(depth):
        modules.append(layers.Linear(before, width * pieces, bias=not batch_norm))
        if batch_norm:
            modules.append(nn.BatchNorm1d(width * pieces, momentum=0.05))  # PacGAN's
        modules.append({"relu": nn.ReLU, "tanh": nn.Tanh, "maxout": Largest}[activation]())
        before = width
    return nn.Sequential(*modules)


class Largest(nn.Module):
    """(B, width * 5) -> (B, width): nn's maxout after a layer of the pair's own kind."""

    def forward(self, x):
        return maxout(x, PIECES)
