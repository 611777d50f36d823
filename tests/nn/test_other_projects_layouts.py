"""Twins of how other projects build spectrally normalised networks: converted, saved, loaded, averaged, distributed."""

import copy
from collections import OrderedDict

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import leaky_relu, normalize, relu
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import spectral_norm

import fastgan
from fastgan.nn import SNConv2d, SNLinear, convert_spectral_norm, fuse_spectral_norm, load_spectral_norm_state
from fastgan.nn.spectral.parametrization import SpectralNorm


class MimicryBlock(nn.Module):
    """torch_mimicry's residual block: old hook on every layer, ReLU out of place here, a normalised shortcut."""

    def __init__(self, channels=3, hidden=6):
        super().__init__()
        self.c1 = spectral_norm(nn.Conv2d(channels, hidden, 3, 1, 1))
        self.c2 = spectral_norm(nn.Conv2d(hidden, hidden, 3, 1, 1))
        self.c_sc = spectral_norm(nn.Conv2d(channels, hidden, 1))
        self.l5 = spectral_norm(nn.Linear(hidden, 1))

    def forward(self, x):
        return self.l5(relu(self.c2(relu(self.c1(x))) + self.c_sc(x)).sum((2, 3)))


class StudioGanCritic(nn.Module):
    """StudioGAN's: a list of lists of blocks, eps=1e-6, a projection embedding, batch norm beside."""

    def __init__(self):
        super().__init__()
        block = [spectral_norm(nn.Conv2d(3, 6, 3, 2, 1), eps=1e-6), nn.BatchNorm2d(6), nn.ReLU()]
        self.blocks = nn.ModuleList([nn.ModuleList(block)])
        self.linear1 = spectral_norm(nn.Linear(6, 1), eps=1e-6)
        self.embedding = spectral_norm(nn.Embedding(5, 6), eps=1e-6)

    def forward(self, x):
        for blocks in self.blocks:
            for block in blocks:
                x = block(x)
        h = x.sum((2, 3))
        label = torch.arange(len(x)) % 5
        return self.linear1(h).squeeze(1) + (self.embedding(label) * h).sum(1)


class ProjectedGanCritics(nn.Module):
    """projected-gan's: a ModuleDict of Sequentials of several scales, without biases."""

    def __init__(self):
        super().__init__()

        def single(width):
            first = spectral_norm(nn.Conv2d(3, width, 4, 2, 1, bias=False))
            return nn.Sequential(first, nn.LeakyReLU(0.2), spectral_norm(nn.Conv2d(width, 1, 4, bias=False)))

        self.mini_discs = nn.ModuleDict({"0": single(4), "1": single(6)})

    def forward(self, x):
        return torch.cat([disc(x).flatten(1) for disc in self.mini_discs.values()], 1)


class HiFiGanCritic(nn.Module):
    """HiFi-GAN's scale discriminator: a list of grouped 1-d convolutions and a last one of its own."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(
            [spectral_norm(nn.Conv1d(3, 8, 5, 1, 2)), spectral_norm(nn.Conv1d(8, 8, 5, 2, groups=4, padding=2))]
        )
        self.conv_post = spectral_norm(nn.Conv1d(8, 1, 3, 1, padding=1))

    def forward(self, x):
        x = x.flatten(2)
        for layer in self.convs:
            x = leaky_relu(layer(x), 0.1)
        return self.conv_post(x).flatten(1)


class UpsamplingGenerator(nn.Module):
    """A SAGAN port's generator: transposed convolutions, the hook's dim=1."""

    def __init__(self):
        super().__init__()
        self.l1 = nn.Sequential(spectral_norm(nn.ConvTranspose2d(3, 6, 4, 2, 1)), nn.BatchNorm2d(6), nn.ReLU())
        self.last = nn.Sequential(spectral_norm(nn.ConvTranspose2d(6, 3, 4, 2, 1)), nn.Tanh())

    def forward(self, x):
        return self.last(self.l1(x))


LAYOUTS = [MimicryBlock, StudioGanCritic, ProjectedGanCritics, HiFiGanCritic, UpsamplingGenerator]


@pytest.fixture
def x():
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.__name__)
def theirs(request, x):
    """A network after some training steps, in evaluation mode, and another with other numbers."""
    torch.manual_seed(0)
    trained, other = request.param(), request.param()
    for _ in range(5):
        trained(x)
    return trained.eval(), other.eval()


def without_metadata(state):
    return {key: tensor.clone() for key, tensor in state.items()}


FORMS = {
    "as saved": lambda state: state,
    "without metadata": without_metadata,
    "of DataParallel": lambda state: OrderedDict((f"module.{key}", t) for key, t in state.items()),
    "of torch.compile": lambda state: {f"_orig_mod.{key}": t for key, t in state.items()},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_convert_then_load(theirs, form, x):
    """The original's checkpoint, and that of a converted model, by either function."""
    trained, other = theirs
    expected, checkpoint = trained(x), form(trained.state_dict())
    model = convert_spectral_norm(other)
    load_spectral_norm_state(model, checkpoint)
    assert torch.allclose(model(x), expected, atol=1e-6)

    again = copy.deepcopy(model)
    for tensor in again.state_dict().values():
        tensor.fill_(1)
    load_spectral_norm_state(again, form(model.state_dict()))
    assert torch.equal(again(x), model(x))
    for load in (again.load_state_dict, lambda state: load_spectral_norm_state(again, state)):
        result = load(without_metadata(model.state_dict()))
        assert result.missing_keys == result.unexpected_keys == []
    assert torch.equal(again(x), model(x))


def test_load_then_convert(theirs, x):
    trained, other = theirs
    other.load_state_dict(trained.state_dict())
    model = convert_spectral_norm(other)
    assert torch.allclose(model(x), trained(x), atol=1e-6)
    assert not any(m._load_state_dict_pre_hooks for m in model.modules())


def test_an_average_follows_a_converted_model(theirs, x):
    """A deep copy is a model of its own, and takes the state of the trained one."""
    model = fuse_spectral_norm(convert_spectral_norm(theirs[0]))
    average = copy.deepcopy(model).eval()
    model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5).add_(0.01)
    model(x)
    before = average(x)
    average.load_state_dict(model.state_dict())
    assert not torch.equal(before, average(x))
    assert torch.equal(average(x), model.eval()(x))


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_a_converted_model_in_ddp(theirs, one_process, x):
    model = convert_spectral_norm(theirs[0])
    expected = model(x)
    wrapped = DistributedDataParallel(model)
    assert torch.equal(wrapped.eval()(x), expected)
    wrapped.train()(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    checkpoint = wrapped.state_dict()
    wrapped.load_state_dict(checkpoint)
    twin = convert_spectral_norm(theirs[1])
    load_spectral_norm_state(twin, checkpoint)
    assert torch.equal(twin(x), model.eval()(x))
    load_spectral_norm_state(DataParallel(twin), checkpoint)  # its keys have the prefix as well


class BigGanConv(nn.Conv2d):
    """BigGAN-PyTorch's SN layer: weight, and buffers u0 (1, out), sv0 (1)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("u0", torch.randn(1, self.out_channels))
        self.register_buffer("sv0", torch.ones(1))

    def forward(self, x):
        matrix, u = self.weight.flatten(1), self.u0
        with torch.no_grad():
            v = normalize(u @ matrix, eps=1e-12)
            u = normalize(v @ matrix.t(), eps=1e-12)
            if self.training:
                self.u0.copy_(u)
        sigma = (v @ matrix.t() @ u.t()).squeeze()
        return self._conv_forward(x, self.weight / sigma, self.bias)


class MimicryOwnConv(BigGanConv):
    """torch_mimicry's SN layer of its own: the same with the names sn_u, sn_sigma."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        del self.sv0
        self.register_buffer("sn_u", self._buffers.pop("u0"))
        self.register_buffer("sn_sigma", torch.ones(1))

    u0 = property(lambda self: self.sn_u)


class Wrapper(nn.Module):
    """Of many SAGAN ports: weight_bar, weight_u, weight_v on the wrapped layer."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        weight = module._parameters.pop("weight")
        module.weight_bar = nn.Parameter(weight.data)
        for name, size in (("weight_u", weight.shape[0]), ("weight_v", weight[0].numel())):
            setattr(module, name, nn.Parameter(normalize(torch.randn(size), dim=0), requires_grad=False))

    def forward(self, x):
        m = self.module
        matrix = m.weight_bar.flatten(1)
        if self.training:
            m.weight_v.data = normalize(matrix.t() @ m.weight_u, dim=0).detach()
            m.weight_u.data = normalize(matrix @ m.weight_v, dim=0).detach()
        m.weight = m.weight_bar / (m.weight_u @ matrix @ m.weight_v)
        return m(x)


@pytest.mark.parametrize("layer", [BigGanConv, MimicryOwnConv, lambda *args: Wrapper(nn.Conv2d(*args))])
def test_a_spectral_norm_of_a_projects_own_is_loaded_and_converting_it_warns(layer, x):
    torch.manual_seed(0)
    theirs = nn.Sequential(layer(3, 6, 3), nn.BatchNorm2d(6), layer(6, 2, 3))
    for _ in range(100):
        theirs(x)
    with pytest.warns(UserWarning, match="found no spectral norm of torch's"):
        assert convert_spectral_norm(theirs) is theirs
    ours = nn.Sequential(SNConv2d(3, 6, 3), nn.BatchNorm2d(6), SNConv2d(6, 2, 3)).eval()
    load_spectral_norm_state(ours, theirs.eval().state_dict())
    assert torch.allclose(ours(x), theirs(x), atol=1e-4)


def test_a_checkpoint_of_torchs_first_spectral_norm():
    """weight_orig, weight, weight_u: v was not kept, W / sigma was."""
    torch.manual_seed(0)
    theirs, y = spectral_norm(nn.ConvTranspose2d(3, 4, 3)), torch.randn(2, 3, 5, 5)
    for _ in range(2):  # u is far from settled: sigma has to come from the checkpoint
        theirs(y)
    names = {"weight_orig": theirs.weight_orig, "weight": theirs.weight, "weight_u": theirs.weight_u}
    checkpoint = {key: tensor.detach().clone() for key, tensor in {**names, "bias": theirs.bias}.items()}
    ours = fastgan.nn.SNConvTranspose2d(3, 4, 3).eval()
    load_spectral_norm_state(ours, checkpoint)
    assert torch.allclose(ours(y), theirs.eval()(y), atol=1e-5)


def test_a_converted_sparse_embedding_trains():
    for build in (
        lambda: fastgan.nn.SNEmbedding(5, 3, sparse=True),
        lambda: convert_spectral_norm(spectral_norm(nn.Embedding(5, 3, sparse=True))),
        lambda: convert_spectral_norm(nn.utils.parametrizations.spectral_norm(nn.Embedding(5, 3, sparse=True))),
    ):
        layer = build()
        layer(torch.tensor([1, 1, 3])).square().sum().backward()
        gradient = layer.parametrizations.weight.original.grad
        assert gradient.layout is torch.strided and gradient.any()


def test_a_model_that_is_fastgans_already_is_converted_without_a_word(recwarn):
    model = convert_spectral_norm(SNLinear(3, 2))
    assert sum(isinstance(m, SpectralNorm) for m in model.modules()) == 1 and not recwarn
