"""A network of fastgan's layers as plain PyTorch has it: the same weights, torch's own layers."""

import copy

import torch
import torch.nn.functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

import fastgan
from fastgan.models import r3gan
from fastgan.nn.norms import OF_TORCH
from fastgan.nn.spectral.fuse import unfuse_spectral_norm
from fastgan.nn.spectral.parametrization import SpectralNorm

ACTIVATIONS = {
    "linear": lambda x, alpha: x,
    "relu": lambda x, alpha: F.relu(x),
    "leaky_relu": lambda x, alpha: F.leaky_relu(x, alpha),
    "silu": lambda x, alpha: F.silu(x),
}
PLAIN = {ours: plain for plain, ours in OF_TORCH.items()}


class BiasAct(fastgan.nn.BiasAct):
    def forward(self, x):
        if self.bias is not None:
            x = x + self.bias.view(-1, *[1] * (x.dim() - 2))
        x = ACTIVATIONS[self.act](x, self.alpha)
        x = x if self.gain == 1 else x * self.gain
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class ResidualBlock(r3gan.ResidualBlock):
    """R3GAN's block, which calls fastgan.ops by itself."""

    def forward(self, x):
        h = F.leaky_relu(self.conv1(x) + self.bias1.view(-1, 1, 1), r3gan.SLOPE)
        h = F.leaky_relu(self.conv2(h) + self.bias2.view(-1, 1, 1), r3gan.SLOPE)
        return x + self.conv3(h)


class ConditionalBatchNorm2d(fastgan.nn.ConditionalBatchNorm2d):
    def normalize(self, x, weight, bias):
        classes = weight is not None and weight.dim() == 2
        own = (None, None) if classes else (weight, bias)
        x = F.batch_norm(x, self.running_mean, self.running_var, *own, self.training, self.momentum, self.eps)
        return torch.addcmul(bias[..., None, None], x, weight[..., None, None]) if classes else x


def attention(q, k, v, *, scale, similarity):
    if similarity != "dot":
        raise ValueError(f"the twin has dot products alone; got {similarity!r}")
    return (scale * q @ k.mT).softmax(-1) @ v


def torch_twin(network):
    """A copy on torch's layers. Errors: TypeError for a layer of fastgan that the copy would still have."""
    torch.manual_seed(0)  # torch's spectral norm draws its vectors before it is given ours
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        unfuse_spectral_norm(module)
        if parametrize.is_parametrized(module):
            _plain_spectral_norm(module)
        kind = type(module)
        if kind in PLAIN:
            module.__class__ = PLAIN[kind]
        elif kind is fastgan.nn.BiasAct:
            module.__class__ = BiasAct
        elif kind is fastgan.nn.ConditionalBatchNorm2d:
            module.__class__ = ConditionalBatchNorm2d
        elif kind is r3gan.ResidualBlock:
            module.__class__ = ResidualBlock
        elif kind is fastgan.nn.SelfAttention2d:
            module.attend = attention
    for name, module in network.named_modules():
        if isinstance(module, SpectralNorm) or type(module) in (*OF_TORCH.values(), fastgan.nn.BiasAct):
            raise TypeError(f"{name} is still a {type(module).__name__} of fastgan")
    return network


def _plain_spectral_norm(module):
    (norm,) = module.parametrizations.weight
    settings = {"n_power_iterations": norm.n_power_iterations, "eps": norm.eps, "dim": norm.dim}
    state = {name: value.clone() for name, value in module.state_dict().items()}
    weight = module.parametrizations.weight.original
    del module.parametrizations
    module.__class__ = next(c for c in type(module).__mro__ if c.__module__.startswith("torch.nn.modules"))
    module.register_parameter("weight", weight)
    spectral_norm(module, "weight", **settings)
    module.load_state_dict(state)
