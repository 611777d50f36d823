"""fastgan.nn.spectral_norm against torch.nn.utils.parametrizations.spectral_norm."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import fastgan

F64 = {"dtype": torch.float64}
LAYERS = {
    "conv1d": (lambda: nn.Conv1d(3, 5, 3, **F64), (2, 3, 7)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2, **F64), (2, 4, 5, 6)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2, **F64), (2, 2, 3, 4, 3)),
    "conv_transpose1d": (lambda: nn.ConvTranspose1d(3, 5, 4, **F64), (2, 3, 4)),
    "conv_transpose2d": (lambda: nn.ConvTranspose2d(3, 5, 4, stride=2, **F64), (2, 3, 4, 3)),
    "conv_transpose3d": (lambda: nn.ConvTranspose3d(2, 3, 2, **F64), (2, 2, 3, 2, 3)),
    "linear": (lambda: nn.Linear(7, 3, **F64), (5, 7)),
    "one_output": (lambda: nn.Linear(7, 1, **F64), (5, 7)),
    "embedding": (lambda: nn.Embedding(9, 4, **F64), None),
}


def both(make, *args, **kwargs):
    """(torch's, fastgan's), and both drew the same random numbers."""
    modules, states = [], []
    for spectral_norm in (parametrizations.spectral_norm, fastgan.nn.spectral_norm):
        torch.manual_seed(3)
        modules.append(spectral_norm(make(), *args, **kwargs))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
    return modules


def close(a, b, rtol=1e-10):
    assert a.shape == b.shape and a.dtype == b.dtype
    assert (a - b).norm() <= rtol * b.norm()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_gives_torchs_numbers(layer, training, assert_same):
    make, shape = LAYERS[layer]
    theirs, ours = (m.train(training) for m in both(make))
    assert_same(theirs, ours)  # the warm-up
    x = torch.randint(9, (5, 2)) if shape is None else torch.randn(shape, **F64)
    for _ in range(2):
        a, b = theirs(x), ours(x)
        close(b, a)
        cotangent = torch.randn_like(a)
        a.backward(cotangent)
        b.backward(cotangent)
        assert_same(theirs, ours)


def test_three_forwards_before_one_backward(pair, batch, assert_same):
    for model in pair:
        sum(k * model(*batch).square().sum() for k in (1, 2, 3)).backward()
    assert_same(*pair)


def test_second_derivative_of_a_gradient_penalty(pair, batch, assert_same):
    for model in pair:
        x = batch[0].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(x, batch[1]).sum(), x, create_graph=True)
        penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        (10 * penalty + model(*batch).mean()).backward()
    assert_same(*pair)


def test_second_derivative_through_the_weights(pair, batch, assert_same):
    """A gradient with respect to the weights is itself differentiated, as unrolled GANs do."""
    for model in pair:
        parameters = list(model.parameters())
        gradients = torch.autograd.grad(model(*batch).square().sum(), parameters, create_graph=True)
        sum(g.square().sum() for g in gradients).backward()
    assert_same(*pair)


def test_eval_mode_leaves_u_and_v(critic, batch):
    model = critic().eval()
    before = copy.deepcopy(model.state_dict())
    outputs = [model(*batch) for _ in range(2)]
    assert torch.equal(*outputs)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_u_and_v_are_updated_in_place(critic, batch):
    """Whoever holds the buffers, such as DDP, sees the new values."""
    model = critic()
    buffers = list(model.buffers())
    before = [b.clone() for b in buffers]
    model(*batch)
    assert all(a is b for a, b in zip(buffers, model.buffers(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(before, buffers, strict=True))


@pytest.mark.parametrize("settings", [{"n_power_iterations": 3}, {"eps": 0.7}, {"dim": 1}, {"dim": -1}, {"dim": 2}])
def test_settings_mean_what_they_mean_in_torch(settings, assert_same):
    theirs, ours = both(lambda: nn.Conv2d(3, 4, 3, **F64), **settings)
    x = torch.randn(2, 3, 5, 5, **F64)
    for model in (theirs, ours):
        (model(x) + model(x)).square().sum().backward()
    assert_same(theirs, ours)


def test_other_tensors_can_be_named(assert_same):
    theirs, ours = both(lambda: nn.LSTMCell(3, 4, **F64), name="weight_hh")
    x = torch.randn(2, 3, **F64)
    for model in (theirs, ours):
        torch.cat(model(x)).square().sum().backward()
    assert_same(theirs, ours)


def test_a_vector_is_divided_by_its_norm(assert_same):
    theirs, ours = both(lambda: nn.BatchNorm1d(5, **F64), n_power_iterations=2)
    x = torch.randn(6, 5, **F64)
    for model in (theirs, ours):
        with torch.no_grad():
            model.parametrizations.weight.original.copy_(torch.arange(5.0))
        close(model.weight, torch.arange(5.0, **F64) / 30**0.5)
        (model(x) ** 3).sum().backward()
    assert_same(theirs, ours)


def test_it_stacks_on_another_parametrization(assert_same):
    class Double(nn.Module):
        def forward(self, x):
            return x * x

    theirs, ours = both(lambda: parametrize.register_parametrization(nn.Linear(4, 3, **F64), "weight", Double()))
    for model in (theirs, ours):
        model.weight.sin().sum().backward()
    assert_same(theirs, ours)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (lambda: nn.Linear(3, 2), {"name": "wait"}),
        (lambda: nn.Linear(3, 2, bias=False), {"name": "bias"}),
        (lambda: nn.Linear(3, 2), {"name": "in_features"}),
        (lambda: nn.ReLU(), {}),
        (lambda: nn.Linear(3, 2), {"dim": 2}),
        (lambda: nn.Linear(3, 2), {"dim": -3}),
        (lambda: nn.Linear(3, 2), {"n_power_iterations": 0}),
        (lambda: nn.PReLU().requires_grad_(False), {"dim": 1}),
        (lambda: nn.LazyLinear(3), {}),
        (lambda: nn.LazyConv2d(3, 3), {}),
    ],
)
def test_what_cannot_be_normalised_raises_as_torch_does(make, arguments):
    with pytest.raises(Exception) as theirs:
        parametrizations.spectral_norm(make(), **arguments)
    with pytest.raises(type(theirs.value)) as ours:
        fastgan.nn.spectral_norm(make(), **arguments)
    if theirs.type is not AttributeError:  # which names the class
        assert str(ours.value) == str(theirs.value)


def test_a_nan_weight_is_not_hidden():
    theirs, ours = both(lambda: nn.Linear(3, 2))
    for model in (theirs, ours):
        with torch.no_grad():
            model.parametrizations.weight.original[0, 0] = torch.nan
        assert model.weight.isnan().all()


# --- dtypes, memory formats, devices


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_errs_at_most_twice_as_much_as_torch(dtype, training):
    def error(spectral_norm):
        torch.manual_seed(0)
        model = spectral_norm(nn.Conv2d(16, 32, 3)).to(dtype).train(training)
        torch.manual_seed(0)
        exact = parametrizations.spectral_norm(nn.Conv2d(16, 32, 3)).double().train(training)
        exact.load_state_dict(model.state_dict())
        cotangent = torch.randn(32, 16, 3, 3)
        for m in (model, exact):
            for _ in range(2):
                m.weight.backward(cotangent.to(m.weight.dtype))
        assert model.weight.dtype == dtype and all(b.dtype == dtype for b in model.buffers())
        gradients = [m.parametrizations.weight.original.grad.double() for m in (model, exact)]
        return [((a - b).norm() / b.norm()).item() for a, b in [(model.weight, exact.weight), gradients]]

    theirs, ours = error(parametrizations.spectral_norm), error(fastgan.nn.spectral_norm)
    assert ours[0] <= 2 * theirs[0] and ours[1] <= 3 * theirs[1]


def test_a_module_can_be_built_in_half_precision():
    model = fastgan.nn.spectral_norm(nn.Linear(6, 4, dtype=torch.bfloat16))
    assert model(torch.randn(2, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert model.parametrizations.weight[0]._u.dtype == torch.bfloat16


def test_autocast_does_not_touch_the_power_iteration(critic):
    inside, outside = critic(dtype=torch.float32), critic(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        weight = inside.conv.weight
        assert inside.linear(torch.randn(2, 5)).dtype == torch.bfloat16
    assert torch.equal(weight, outside.conv.weight)
    assert torch.equal(inside.conv.parametrizations.weight[0]._u, outside.conv.parametrizations.weight[0]._u)


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_channels_last_gives_torchs_numbers_and_strides(layer, assert_same):
    theirs, ours = both(lambda: layer(4, 6, 3, **F64).to(memory_format=torch.channels_last))
    x = torch.randn(2, 4, 5, 5, **F64).to(memory_format=torch.channels_last)
    for model in (theirs, ours):
        model(x).square().sum().backward()
    assert_same(theirs, ours)
    weight = ours.parametrizations.weight.original
    assert not weight.is_contiguous()
    assert ours.weight.stride() == weight.stride() == theirs.weight.stride()


@pytest.mark.parametrize("layer", LAYERS)
def test_the_normalised_weight_has_the_strides_of_the_weight(layer):
    model = fastgan.nn.spectral_norm(LAYERS[layer][0]())
    assert model.weight.is_contiguous()


def test_a_transposed_weight_is_read_right(assert_same):
    def make():
        layer = nn.Linear(4, 3, **F64)
        layer.weight = nn.Parameter(torch.randn(4, 3, **F64).t())
        return layer

    theirs, ours = both(make)
    for model in (theirs, ours):
        model.weight.sin().sum().backward()
    assert_same(theirs, ours)


def test_a_meta_module_can_be_filled_from_a_checkpoint(critic, batch):
    expected = critic().eval()
    with torch.device("meta"):
        model = critic()
    assert all(t.is_meta for t in (*model.parameters(), *model.buffers()))
    model.to_empty(device="cpu").load_state_dict(expected.state_dict())
    assert torch.equal(model.eval()(*batch), expected(*batch))


# --- checkpoints and copies


def test_state_dict_loads_both_ways_strictly(pair, batch, assert_same):
    theirs, ours = pair
    for model in pair:
        for _ in range(3):
            model(*batch)
    for source, target in (pair, pair[::-1]):
        with torch.no_grad():
            for tensor in target.state_dict().values():
                tensor.zero_()
        target.load_state_dict(source.state_dict(), strict=True)
        close(ours.eval()(*batch), theirs.eval()(*batch))


def test_pickled_model_goes_on_as_the_original(critic, batch, assert_same):
    model = critic()
    model(*batch)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for twin in (pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)):
        assert parametrize.is_parametrized(twin.conv, "weight") and isinstance(twin.conv, nn.Conv2d)
        original = copy.deepcopy(model)
        for m in (original, twin):
            m(*batch).square().sum().backward()
        assert_same(original, twin, rtol=0)


def test_deepcopy_is_independent(critic, batch):
    model = critic()
    model(*batch)
    average = copy.deepcopy(model).eval()
    before = average(*batch).detach()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5).add_(0.1)
    model(*batch)
    assert torch.equal(average(*batch), before)
    with torch.no_grad():  # an exponential moving average
        for mean, value in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(value, 0.5)
    assert not torch.equal(average(*batch), before)


def test_remove_parametrizations_leaves_the_normalised_weight():
    model = fastgan.nn.spectral_norm(nn.Conv2d(3, 4, 3)).eval()
    weight, parameter = model.weight.detach().clone(), model.parametrizations.weight.original
    parametrize.remove_parametrizations(model, "weight")
    assert type(model) is nn.Conv2d and model.weight is parameter and torch.equal(model.weight, weight)
    model = fastgan.nn.spectral_norm(nn.Conv2d(3, 4, 3))
    original = model.parametrizations.weight.original.detach().clone()
    parametrize.remove_parametrizations(model, "weight", leave_parametrized=False)
    assert torch.equal(model.weight, original)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_remove_parametrizations_on_a_copy_leaves_the_original_whole(duplicate):
    model = fastgan.nn.spectral_norm(nn.Linear(3, 2))
    twin = duplicate(model)
    parametrize.remove_parametrizations(twin, "weight")
    assert type(twin) is nn.Linear
    assert model.weight.shape == (2, 3) and parametrize.is_parametrized(model, "weight")


def test_the_parameter_stays_the_parameter(critic):
    """An optimiser that was built before goes on."""
    layer = nn.Linear(3, 2)
    parameter = layer.weight
    fastgan.nn.spectral_norm(layer)
    assert layer.parametrizations.weight.original is parameter
    value = torch.randn(2, 3)
    layer.weight = value
    assert torch.equal(parameter, value)
    assert parametrize.type_before_parametrizations(layer) is nn.Linear


# --- torch.func and forward-mode


@pytest.mark.parametrize("training", [True, False])
def test_functional_call_and_torch_func_grad(training, pair, batch, assert_same):
    gradients = []
    for model in pair:
        model.train(training)
        parameters = {k: v.detach() for k, v in model.named_parameters()}
        loss = lambda p, model=model: torch.func.functional_call(model, p, batch).square().sum()  # noqa: E731
        gradients.append([torch.func.grad(loss)(parameters) for _ in range(2)][1])
    for name, gradient in gradients[0].items():
        close(gradients[1][name], gradient)
    assert_same(*pair)  # u and v, too


def test_forward_mode_derivative_is_right(pair, batch):
    tangents = []
    for model in pair:
        model.eval()
        parameters = {k: v.detach() for k, v in model.named_parameters()}
        directions = {k: torch.full_like(v, 0.3) for k, v in parameters.items()}
        call = lambda p, model=model: torch.func.functional_call(model, p, batch)  # noqa: E731
        tangents.append(torch.func.jvp(call, (parameters,), (directions,))[1])
    close(tangents[1], tangents[0])
    assert tangents[0].abs().min() > 0


def test_a_sparse_embedding_trains_as_torch_s_does():
    results = []
    for spectral_norm in (torch.nn.utils.parametrizations.spectral_norm, fastgan.nn.spectral_norm):
        torch.manual_seed(0)
        layer = spectral_norm(torch.nn.Embedding(6, 4, sparse=True, dtype=torch.float64))
        layer(torch.tensor([1, 3, 3])).square().sum().backward()
        results.append(layer.parametrizations.weight.original.grad)
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN])
def test_a_recurrent_module_which_would_not_see_its_normalised_weight_is_refused(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__} reads its weights from a list of its own.*LSTMCell"):
        fastgan.nn.spectral_norm(kind(3, 4), "weight_hh_l0")
    old = torch.nn.utils.spectral_norm(kind(3, 4), "weight_hh_l0")
    names = list(old.state_dict())
    fastgan.nn.convert_spectral_norm(old)
    assert list(old.state_dict()) == names  # torch's hook, which the module does see, stays


def test_a_weight_of_zeros_warns_and_the_trainer_names_it(tmp_path):
    zeros = torch.nn.Linear(3, 4)
    torch.nn.init.zeros_(zeros.weight)
    words = "a weight of zeros has no spectral norm"
    with pytest.warns(UserWarning, match=words):
        fastgan.nn.spectral_norm(zeros)
    critic = torch.nn.Sequential(torch.nn.Linear(2, 4), fastgan.nn.SNLinear(4, 1))
    with pytest.warns(UserWarning, match=words):
        torch.nn.init.zeros_(critic[1].weight)
    generator = torch.nn.Linear(3, 2)
    generator.z_dim = 3
    recipe = fastgan.Recipe(batch_size=4, spectral_norm="none")
    with pytest.raises(ValueError, match=r"discriminator: 1\.weight is zero and has spectral norm"):
        fastgan.Trainer(generator, critic, recipe, torch.randn(80, 2), run_dir=tmp_path, device="cpu")
