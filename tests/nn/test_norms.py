import copy
import pickle

import pytest
import torch
from torch import nn

import fastgan
from fastgan.nn.couples_samples import couples_samples

# (class, arguments, keyword arguments) under the same name in fastgan.nn and torch.nn, on 6 channels
CASES = [
    ("GroupNorm", (3, 6), {}),
    ("GroupNorm", (3, 6), {"affine": False, "eps": 1e-3}),
    ("LayerNorm", ((6, 4, 5),), {}),
    ("LayerNorm", (5,), {"bias": False}),
    ("LayerNorm", ((4, 5),), {"elementwise_affine": False}),
    ("InstanceNorm2d", (6,), {}),
    ("InstanceNorm2d", (6,), {"affine": True, "track_running_stats": True}),
    ("InstanceNorm2d", (6,), {"track_running_stats": True, "momentum": 0.3}),
    ("BatchNorm2d", (6,), {}),
    ("BatchNorm2d", (6,), {"affine": False, "momentum": None}),
    ("BatchNorm2d", (6,), {"track_running_stats": False}),
]
IDS = [f"{name}-{'-'.join(options)}" for name, _, options in CASES]
every_case = pytest.mark.parametrize("case", CASES, ids=IDS)


def pair(case, dtype=torch.float64):
    name, arguments, options = case
    torch.manual_seed(0)
    plain = getattr(nn, name)(*arguments, **options).to(dtype)
    for parameter in plain.parameters():
        nn.init.normal_(parameter)
    ours = getattr(fastgan.nn, name)(*arguments, **options).to(dtype)
    ours.load_state_dict(plain.state_dict())
    return ours, plain


def penalty_and_gradients(layer, x):
    (g,) = torch.autograd.grad(layer(x).sin().sum(), x, create_graph=True)
    penalty = g.square().sum()
    return [penalty, *torch.autograd.grad(penalty, [x, *layer.parameters()], allow_unused=True)]


def assert_equal(got, want):
    for a, b in zip(got, want, strict=True):
        if a is not None or b is not None:
            a, b = (torch.zeros_like(b if a is None else a) if t is None else t for t in (a, b))
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@every_case
@pytest.mark.parametrize("channels_last", [False, True])
def test_equals_torch_s_layer_in_training_and_evaluation(case, channels_last):
    ours, plain = pair(case)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    assert isinstance(ours, type(plain))
    assert repr(ours) == repr(plain)
    for training in (True, True, False):  # twice, so that running statistics have a history
        x = (torch.randn(3, 6, 4, 5, dtype=torch.float64) + 1).contiguous(memory_format=memory_format)
        x.requires_grad_()
        results = [penalty_and_gradients(layer.train(training), x) for layer in (ours, plain)]
        assert_equal(*results)
        y = ours(x)
        assert y.is_contiguous(memory_format=memory_format) or case[0] == "LayerNorm"
        assert_equal([y], [plain(x)])
        assert list(ours.state_dict()) == list(plain.state_dict())
        assert_equal(ours.state_dict().values(), plain.state_dict().values())


@every_case
def test_the_op_computes_it(case):
    ours, _ = pair(case)
    with torch.profiler.profile() as profile:
        ours.train()(torch.randn(3, 6, 4, 5, dtype=torch.float64))
    assert "fastgan::normalize" in {event.key for event in profile.key_averages()}


@every_case
def test_survives_deepcopy_and_pickle(case):
    ours, _ = pair(case)
    x = torch.randn(3, 6, 4, 5, dtype=torch.float64)
    want = copy.deepcopy(ours)(x)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(twin(x), want)
        assert type(twin) is type(ours)


@every_case
def test_compiles_to_one_graph_with_its_running_statistics(case):
    ours, plain = pair(case, torch.float32)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        x = torch.randn(3, 6, 4, 5)
        torch.testing.assert_close(compiled(x), plain(x), rtol=1e-4, atol=1e-5)
    for got, want in zip(ours.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(got, want)


@every_case
def test_under_autocast_a_half_activation_stays_one(case):
    ours, plain = pair(case, torch.float32)
    x = torch.randn(3, 6, 4, 5).bfloat16()
    for training in (True, False):
        with torch.autocast("cpu", torch.bfloat16):
            y = ours.train(training)(x)
        assert y.dtype == torch.bfloat16
        torch.testing.assert_close(y.float(), plain.train(training)(x.float()), rtol=2e-2, atol=2e-2)
    assert all(buffer.dtype != torch.bfloat16 for buffer in ours.buffers())


def test_an_image_without_a_batch():
    ours, plain = pair(("InstanceNorm2d", (6,), {"affine": True}))
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(x), plain(x))


def test_bad_input_is_refused_as_torch_does():
    for case, x in ((CASES[8], torch.randn(3, 6)), (CASES[8], torch.randn(1, 6, 1, 1)), (CASES[5], torch.randn(6))):
        for layer in pair(case, torch.float32):
            with pytest.raises(ValueError):
                layer(x)


def test_batch_norm_is_seen_to_couple_samples():
    assert couples_samples(fastgan.nn.BatchNorm2d(4))
    assert couples_samples(fastgan.nn.ConditionalBatchNorm2d(4, 3))
    assert not couples_samples(nn.Sequential(fastgan.nn.GroupNorm(2, 4), fastgan.nn.InstanceNorm2d(4)))


@pytest.mark.parametrize("training", [True, False])
def test_conditional_batch_norm_equals_a_gain_and_a_bias_after_batch_norm(training):
    torch.manual_seed(0)
    layer = fastgan.nn.ConditionalBatchNorm2d(6, 5).double().train(training)
    nn.init.normal_(layer.gain_and_bias.weight)
    plain, labels = nn.BatchNorm2d(6, affine=False).double().train(training), torch.tensor([0, 4, 4])

    def twin(x):
        gain, bias = layer.gain_and_bias(labels)[..., None, None].chunk(2, 1)
        return (1 + gain) * plain(x) + bias

    x = torch.randn(3, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    results = []
    for function in (lambda x: layer(x, labels), twin):
        (g,) = torch.autograd.grad(function(x).sin().sum(), x, create_graph=True)
        results.append([g, *torch.autograd.grad(g.square().sum(), [x, layer.gain_and_bias.weight])])
    assert_equal(*results)
    assert_equal(layer.buffers(), plain.buffers())
    with pytest.raises(ValueError, match="labels must be given"):
        layer(x)


@pytest.mark.parametrize("act", ["leaky_relu", "silu", "relu"])
def test_bias_act_equals_bias_and_activation(act):
    torch.manual_seed(0)
    layer = fastgan.nn.BiasAct(6, act, gain=2.0, clamp=1.5).double()
    nn.init.normal_(layer.bias)
    function = {"leaky_relu": nn.LeakyReLU(0.2), "silu": nn.SiLU(), "relu": nn.ReLU()}[act]

    def twin(x):
        return (2 * function(x + layer.bias[:, None, None])).clamp(-1.5, 1.5)

    x = torch.randn(3, 6, 4, 5, dtype=torch.float64, requires_grad=True)
    results = []
    for f in (layer, twin):
        (g,) = torch.autograd.grad(f(x).sin().sum(), x, create_graph=True)
        results.append([g, *torch.autograd.grad(g.square().sum(), [x, layer.bias])])
    assert_equal(*results)
    assert list(layer.state_dict()) == ["bias"]
    assert repr(layer) == f"BiasAct(6, {act!r}, alpha=0.2, gain=2.0, clamp=1.5, dim=1)"
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))


def test_bias_act_without_a_bias():
    layer = fastgan.nn.BiasAct(act="relu")
    assert not layer.state_dict()
    x = torch.randn(2, 3)
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), x.relu())
    with pytest.raises(ValueError, match="act must be one of linear, relu"):
        fastgan.nn.BiasAct(act="mish")


def test_maxout_is_the_largest_piece_and_differentiates_twice():
    torch.manual_seed(0)
    layer = fastgan.nn.Maxout(4, 3, 5).double()
    x = torch.randn(2, 7, 4, dtype=torch.float64, requires_grad=True)
    pieces = torch.stack([x @ layer.linear.weight[i::5].mT + layer.linear.bias[i::5] for i in range(5)])
    torch.testing.assert_close(layer(x), pieces.amax(0))
    assert torch.autograd.gradgradcheck(lambda x: layer(x).sin(), x)
    with pytest.raises(ValueError, match="pieces must be at least 1, got 0"):
        fastgan.nn.Maxout(4, 3, 0)


SHAPES = {"1d": [(6,), (6, 7)], "2d": [(6, 4, 5)], "3d": [(6, 2, 3, 4)]}


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm3d", "InstanceNorm1d", "InstanceNorm3d"])
def test_other_numbers_of_dimensions_equal_torchs(name):
    for shape in SHAPES[name[-2:]][name == "InstanceNorm1d" :]:
        ours, plain = pair((name, (6,), {"affine": True, "track_running_stats": True}))
        x = torch.randn(4, *shape, dtype=torch.float64, requires_grad=True)
        for training in (True, True, False):
            ours.train(training), plain.train(training)
            assert_equal(penalty_and_gradients(ours, x), penalty_and_gradients(plain, x))
        assert_equal(ours.state_dict().values(), plain.state_dict().values())


@pytest.mark.parametrize("affine", [True, False])
def test_an_empty_batch_in_training_is_as_torchs(affine):
    ours, plain = (cls(6, affine=affine) for cls in (fastgan.nn.BatchNorm2d, nn.BatchNorm2d))
    x = torch.randn(0, 6, 4, 5, requires_grad=True)
    for layer in (ours, plain):
        y = layer(x)
        assert y.shape == x.shape
        y.sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))
    assert_equal(ours.state_dict().values(), plain.state_dict().values())


def test_synonyms_of_activations():
    assert (fastgan.nn.BiasAct(act="lrelu").act, fastgan.nn.BiasAct(act="swish").act) == ("leaky_relu", "silu")
