"""Small critics drawn at random: layers that are piecewise linear, and some that are not."""

import random

import torch
from torch import nn
from torch.nn.utils import parametrizations

import fastgan
from fastgan.nn import BiasAct, EqualizedConv2d, EqualizedLinear

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
AVERAGE = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
MAX = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
SIZE = {1: 12, 2: 8, 3: 6}


class Gain(nn.Module):
    """A factor, for everything or for each channel, and an offset."""

    def __init__(self, *shape):
        super().__init__()
        self.gain, self.offset = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(shape))

    def forward(self, x):
        shape = (-1, *[1] * (x.dim() - 2))
        return x * self.gain.reshape(shape) + self.offset.reshape(shape)


class Skip(nn.Module):
    def __init__(self, body, how):
        super().__init__()
        self.body, self.how = body, how

    def forward(self, x):
        y = self.body(x)
        if self.how == "sum":
            return (x + y) * 0.7
        return torch.cat([x, y], 1) if self.how == "join" else torch.maximum(x, y)


class Twice(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(self.body(x))


class Scale(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Draw:
    """`curved`: whether a layer was drawn that four passes do not take."""

    def __init__(self, seed):
        self.random, self.curved = random.Random(seed), False
        self.dims = self.random.choice([1, 2, 2, 2, 3])
        self.size = SIZE[self.dims]

    def critic(self):
        while True:
            self.curved = False
            try:
                return self._critic()
            except RuntimeError:  # too small for a kernel or a padding: draw again
                continue

    def _critic(self):
        channels = self.random.choice([1, 3, 4])
        self.shape = (channels, *[self.size] * self.dims)
        layers = []
        for _ in range(self.random.randint(1, 4)):
            layer, channels = self.block(channels)
            layers += layer
        if self.random.random() < 0.1:
            layers.append(nn.GroupNorm(1, channels))
            self.curved = True
        with torch.no_grad():
            features = nn.Sequential(*layers, nn.Flatten())(torch.randn(1, *self.shape)).shape[1]
        if self.random.random() < 0.5:
            layers += [Scale(lambda x: x.flatten(2).mean(-1)), self.normalized(nn.Linear(channels, 1))]
        else:
            linear = EqualizedLinear if self.random.random() < 0.3 else nn.Linear
            layers += [nn.Flatten(), linear(features, 5), nn.LeakyReLU(0.1), self.normalized(nn.Linear(5, 1))]
        if self.random.random() < 0.5:
            layers.append(nn.Flatten(0))
        return nn.Sequential(*layers).double()

    def block(self, channels):
        kind = self.random.choice(["conv", "conv", "conv", "transposed", "skip", "twice", "pool", "resize"])
        if kind == "skip":
            how = self.random.choice(["sum", "join", "larger"])
            body = nn.Sequential(self.conv(channels, channels, keeps_size=True), *self.activation(channels))
            return [Skip(body, how)], 2 * channels if how == "join" else channels
        if kind == "twice":
            return [Twice(nn.Sequential(self.conv(channels, channels, keeps_size=True), nn.LeakyReLU(0.3)))], channels
        if kind == "pool":
            return [self.random.choice([AVERAGE, MAX])[self.dims](2, 1)], channels
        if kind == "resize":
            mode = self.random.choice(["nearest", {1: "linear", 2: "bilinear", 3: "trilinear"}[self.dims]])
            return [nn.Upsample(scale_factor=1.5, mode=mode)], channels
        after = self.random.choice([2, 4, 6])
        layer = self.transposed(channels, after) if kind == "transposed" else self.conv(channels, after)
        return [layer, *self.activation(after)], after

    def conv(self, before, after, keeps_size=False):
        groups = self.random.choice([g for g in (1, 1, 2) if before % g == 0 and after % g == 0])
        dilation = self.random.choice([1, 1, 2])
        padding_mode = self.random.choice(["zeros"] * 4 + ["reflect", "replicate", "circular"])
        if self.dims == 3 and padding_mode == "reflect":
            padding_mode = "replicate"
        self.curved |= padding_mode == "circular"  # it writes into views, which the graph does not show
        stride = 1 if keeps_size else self.random.choice([1, 1, 2])
        given = {"padding": dilation, "dilation": dilation, "stride": stride, "groups": groups}
        given |= {"padding_mode": padding_mode, "bias": self.random.random() < 0.7}
        equalized = self.dims == 2 and self.random.random() < 0.2
        return self.normalized((EqualizedConv2d if equalized else CONV[self.dims])(before, after, 3, **given))

    def transposed(self, before, after):
        stride = self.random.choice([1, 2])
        given = {"padding": 1, "stride": stride, "output_padding": stride - 1, "bias": self.random.random() < 0.7}
        return self.normalized(TRANSPOSED[self.dims](before, after, 3, **given))

    def normalized(self, layer):
        how = self.random.choice([None] * 4 + ["ours", "torch", "weight_norm"])
        if isinstance(layer, (EqualizedConv2d, EqualizedLinear)) or how is None:
            return layer
        if how == "weight_norm":
            return parametrizations.weight_norm(layer)
        return fastgan.nn.spectral_norm(layer) if how == "ours" else parametrizations.spectral_norm(layer)

    def activation(self, channels):
        curved = [nn.SiLU(), nn.Tanh(), nn.Softplus(), nn.ELU()]
        straight = [
            *(nn.ReLU(), nn.LeakyReLU(0.2), nn.ReLU6(), nn.Hardtanh(-0.5, 0.5)),
            *(nn.PReLU(channels), nn.PReLU(), nn.Threshold(0.1, 0.3), nn.Softshrink(0.1), nn.Dropout(0.3)),
            *(Gain(channels), Gain(1)),
            *(BiasAct(channels, clamp=1.0), BiasAct(channels), BiasAct(channels, "relu", gain=2.0)),
            *(Scale(torch.abs), Scale(lambda x: 1 - x / 3), Scale(lambda x: x.clamp(min=-1))),
        ]
        if self.random.random() < 0.08:
            self.curved = True
            return [self.random.choice(curved)]
        in_place = [nn.LeakyReLU(0.2, inplace=True), nn.ReLU(inplace=True)]
        drawn = [self.random.sample(straight, n) for n in (1, 1, 2, 2)]
        return self.random.choice([*drawn, in_place[:1], in_place[1:]])
