"""fastgan.nn.to_torch: the same numbers without an op of fastgan's."""

import pickle

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import fastgan
from fastgan.nn import (
    BatchNorm1d,
    BatchNorm2d,
    BiasAct,
    ConditionalBatchNorm2d,
    GroupNorm,
    InstanceNorm2d,
    LayerNorm,
    SelfAttention2d,
    SNConv2d,
    SNLinear,
    to_torch,
)


class Operations(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


def calls_fastgan(model, *inputs):
    with Operations() as operations:
        model(*inputs)
    return any("fastgan" in name for name in operations.seen)


def network():
    torch.manual_seed(0)
    attention = SelfAttention2d(8)
    l2 = SelfAttention2d(8, similarity="l2", heads=2, qk_channels=4, spectral_norm=False)
    for block in (attention, l2):
        nn.init.constant_(block.gamma, 0.7)
    model = nn.Sequential(
        SNConv2d(3, 8, 3, padding=1, bias=False),
        BiasAct(8, act="elu", gain=1.4, clamp=2.0),
        GroupNorm(2, 8),
        attention,
        BatchNorm2d(8),
        InstanceNorm2d(8, affine=True),
        l2,
        BiasAct(),
        nn.Flatten(),
        LayerNorm(512),
        SNLinear(512, 4),
        BatchNorm1d(4),
    )
    model(torch.randn(4, 3, 8, 8))  # running statistics
    return fastgan.nn.fuse_spectral_norm(model)


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_same_numbers_without_an_op_of_fastgan():
    model = network()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    plain = to_torch(model)
    assert model.training and all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert not plain.training and not calls_fastgan(plain, X) and calls_fastgan(model.eval(), X)
    assert torch.allclose(plain(X), model(X), atol=1e-5)
    assert [type(plain[i]) for i in (0, 2, 4, 5, 9, 10, 11)] == [
        nn.Conv2d,
        nn.GroupNorm,
        nn.BatchNorm2d,
        nn.InstanceNorm2d,
        nn.LayerNorm,
        nn.Linear,
        nn.BatchNorm1d,
    ]
    assert torch.allclose(pickle.loads(pickle.dumps(plain))(X), plain(X))


def test_it_is_exported():
    plain = to_torch(network())
    program = torch.export.export(plain, (X,))
    assert "fastgan" not in str([node.target for node in program.graph.nodes])
    assert torch.allclose(program.module()(X), plain(X), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["progressive", "r3gan"])
def test_generators_that_call_the_ops_are_traced(name):
    torch.manual_seed(0)
    generator = to_torch(fastgan.models.create(name, channels=1, resolution=16, width=8).generator)
    z = torch.randn(2, generator.z_dim)
    traced = torch.jit.trace(generator, z)
    assert "fastgan::" not in str(traced.inlined_graph)
    assert torch.allclose(traced(z), generator(z), atol=1e-5)


class CallsAnOp(nn.Module):
    """Calls an op in its forward, as the generators of "r3gan" do."""

    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, x):
        return fastgan.ops.bias_act(self.body(x), act="silu", gain=1.3)


@pytest.mark.filterwarnings("ignore")
def test_an_onnx_file_has_the_numbers_of_the_model(tmp_path):
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module)
    onnxruntime = pytest.importorskip("onnxruntime")
    model, path = CallsAnOp().eval(), tmp_path / "model.onnx"
    torch.onnx.export(to_torch(model), (X,), path, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: X.numpy()})
    assert torch.allclose(torch.from_numpy(found), model(X), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_a_trace_needs_no_conversion():
    model = network().eval()
    traced = torch.jit.trace(model, X)
    assert "fastgan::" not in str(traced.inlined_graph)
    assert torch.allclose(traced(X), model(X), atol=1e-5)


def test_conditional_batch_norm():
    torch.manual_seed(0)
    layer, labels = ConditionalBatchNorm2d(3, num_classes=5), torch.tensor([1, 4])
    nn.init.normal_(layer.gain_and_bias.weight)
    layer(torch.randn(2, 3, 8, 8) + 1, labels)
    plain = to_torch(layer)
    assert not calls_fastgan(plain, X, labels)
    assert torch.allclose(plain(X, labels), layer.eval()(X, labels), atol=1e-5)


@pytest.mark.parametrize("name", ["dcgan", "sngan", "sagan", "biggan", "wgan_gp"])
def test_generators_of_layers(name):
    """The others call fastgan.ops in their forward, and are traced."""
    torch.manual_seed(0)
    generator = fastgan.models.create(name, channels=1, resolution=16, width=8).generator
    z = torch.randn(2, generator.z_dim)
    generator(z)
    plain = to_torch(generator)
    assert not calls_fastgan(plain, z)
    assert torch.allclose(plain(z), generator.eval()(z), atol=1e-5)
