"""fastgan.nn.fuse_spectral_norm: one op per forward, the numbers of the unfused model, and nothing left behind."""

import copy
import gc
import pickle
import sys
import threading
import weakref
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint

import fastgan
from fastgan.nn import SNConv2d, SNLinear, fuse_spectral_norm, unfuse_spectral_norm
from fastgan.nn.spectral.parametrization import SpectralNorm


@pytest.fixture
def calls(monkeypatch):
    """A list of the number of weights in each call of the op."""
    sizes, op = [], fastgan.ops.spectral_norm

    def counted(weights, *args, **kwargs):
        sizes.append(len(weights))
        return op(weights, *args, **kwargs)

    monkeypatch.setattr(fastgan.ops, "spectral_norm", counted)
    return sizes


@pytest.fixture
def fused(critic):
    return fuse_spectral_norm(critic())


def norms(model):
    return [module for module in model.modules() if isinstance(module, SpectralNorm)]


def nothing_left(model):
    return all(norm.ready is None for norm in norms(model))


def mlp(*sizes):
    return nn.Sequential(*(SNLinear(i, o) for i, o in pairwise(sizes)))


# --- numbers


def test_one_op_per_forward_for_each_setting(fused, batch, calls):
    fused(*batch)
    assert sorted(calls) == [1, 3]  # the critic's linear layer iterates twice
    fused(*batch)
    assert len(calls) == 4


@pytest.mark.parametrize("training", [True, False])
def test_same_numbers_as_unfused_and_as_torch(training, critic, fused, batch, assert_same):
    models = [critic(parametrizations.spectral_norm), critic(), fused]
    for model in models:
        model.train(training)
        sum(k * model(*batch).square().sum() for k in (1, 2, 3)).backward()  # three forwards before one backward
    assert_same(models[0], fused)
    assert_same(models[1], fused)


def test_same_second_derivative_of_a_gradient_penalty(critic, fused, batch, assert_same):
    models = [critic(parametrizations.spectral_norm), fused]
    for model in models:
        x = batch[0].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model(x, batch[1]).sum(), x, create_graph=True)
        (gradient.flatten(1).norm(dim=1) - 1).square().mean().backward()
    assert_same(*models)


def test_a_layer_used_twice_iterates_once(calls):
    torch.manual_seed(0)
    layer = SNLinear(3, 3)
    once = copy.deepcopy(layer)
    once(torch.ones(3))
    calls.clear()
    fuse_spectral_norm(nn.Sequential(layer, nn.Tanh(), layer))(torch.ones(3))
    assert torch.equal(layer.parametrizations.weight[0]._u, once.parametrizations.weight[0]._u)
    assert calls == [1]


def test_an_unused_layer_gets_no_gradient():
    """As unfused: None, so that an optimiser leaves it alone, and not zero."""

    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layers = mlp(3, 3, 3)

        def forward(self, x):
            return self.layers[0](x)

    plain, model = Partly(), fuse_spectral_norm(Partly())
    for m in (plain, model):
        m(torch.ones(3)).sum().backward()
    assert [p.grad is None for p in model.parameters()] == [p.grad is None for p in plain.parameters()]


def test_frozen_layers(critic, fused, batch, assert_same):
    plain = critic()
    for model in (plain, fused):
        model.conv.requires_grad_(False)
        model(*batch).sum().backward()
    assert_same(plain, fused)
    assert fused.conv.parametrizations.weight.original.grad is None


def test_a_submodule_called_directly_normalises_itself(critic, fused, batch, assert_same):
    plain = critic()
    for model in (plain, fused):
        model(*batch).sum().backward()
        model.conv(batch[0]).sum().backward()
        model(*batch).sum().backward()
    assert_same(plain, fused)


def test_dtypes_and_modes_are_grouped(calls):
    class Each(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layers = mlp(3, 4, 4, 2, 2).double()
            self.layers[1].float()
            self.layers[3].eval()

        def forward(self):
            return [layer.weight for layer in self.layers]

    plain, model = Each(), fuse_spectral_norm(Each())
    for a, b in zip(plain(), model(), strict=True):
        assert torch.equal(a, b)
    assert sorted(calls[-3:]) == [1, 1, 2]


# --- forwards inside forwards


def test_a_fused_model_in_a_fused_model_does_not_iterate_again(calls):
    inner = fuse_spectral_norm(mlp(3, 3, 3))
    outer = fuse_spectral_norm(nn.Sequential(inner, SNLinear(3, 3)))
    calls.clear()
    outer(torch.ones(3))
    assert calls == [3] and nothing_left(outer)


def test_a_model_that_calls_itself():
    class Recursive(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = SNLinear(3, 3), SNLinear(3, 3)

        def forward(self, x, depth=2):
            x = self.first(x)
            x = self(x, depth - 1) if depth else x
            return self.last(x)

    torch.manual_seed(0)
    model = fuse_spectral_norm(Recursive()).eval()
    expected = unfuse_spectral_norm(copy.deepcopy(model))(torch.ones(3))
    assert torch.allclose(model(torch.ones(3)), expected) and nothing_left(model)


# --- nothing stale


def test_nothing_survives_an_exception(fused, batch):
    with pytest.raises(RuntimeError):
        fused(batch[0][:, :2], batch[1])
    assert nothing_left(fused)
    fused(*batch).sum().backward()


def test_an_interrupted_forward_leaves_nothing_stale(critic, fused, batch, assert_same):
    """KeyboardInterrupt is not an Exception: torch runs no hook after it."""

    def interrupt(module, args):
        raise KeyboardInterrupt

    plain, handle = critic(), fused.plain.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        fused(*batch)
    assert not nothing_left(fused)  # or this test shows nothing
    handle.remove()
    fused.load_state_dict(plain.state_dict())
    for model in (plain, fused):
        with torch.no_grad():
            model.conv.parametrizations.weight.original.mul_(1.5).add_(0.1)
        (model.conv(batch[0]).square().sum() + model(*batch).sum()).backward()
    assert_same(plain, fused)
    assert nothing_left(fused)


def test_no_grad_then_grad(critic, fused, batch, assert_same):
    plain = critic()
    for model in (plain, fused):
        with torch.no_grad():
            model(*batch)
        with torch.inference_mode():
            model(*batch)
        model(*batch).sum().backward()
    assert_same(plain, fused)


def test_a_graph_asked_for_inside_a_no_grad_forward_is_there():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = SNLinear(3, 3)

        def forward(self, x):
            with torch.enable_grad():
                return self.layer(x).sum()

    model = fuse_spectral_norm(Mixed())
    with torch.no_grad():
        loss = model(torch.ones(3))
    loss.backward()
    assert model.layer.parametrizations.weight.original.grad.abs().sum() > 0


def test_a_weight_changed_by_a_later_hook_is_normalised_again():
    model = fuse_spectral_norm(mlp(3, 3)).eval()
    x = torch.randn(3)
    weight = model[0].parametrizations.weight.original
    changed = unfuse_spectral_norm(copy.deepcopy(model))
    with torch.no_grad():
        changed[0].parametrizations.weight.original[0].neg_()

    def change(module, args):
        with torch.no_grad():
            weight[0].neg_()

    model.register_forward_pre_hook(change)
    assert torch.equal(model(x), changed(x))


@pytest.mark.parametrize("grad", [True, False])
def test_normalised_weights_do_not_outlive_the_forward(grad, fused, batch):
    seen = []

    def look(module, args):
        seen.extend(weakref.ref(norm.ready.normalized) for norm in norms(fused))

    fused.plain.register_forward_pre_hook(look)
    with torch.set_grad_enabled(grad):
        output = fused(*batch)
    gc.collect()
    assert len(seen) == 4 and (grad or not any(ref() is not None for ref in seen))
    del output
    gc.collect()
    assert not any(ref() is not None for ref in seen)


# --- copies and checkpoints


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_fused_and_on_its_own(duplicate, critic, fused, batch, calls, assert_same):
    fused(*batch)
    twin, plain = duplicate(fused), critic()
    plain.load_state_dict(fused.state_dict())
    before = copy.deepcopy(fused.state_dict())
    calls.clear()
    twin(*batch).sum().backward()
    assert sorted(calls) == [1, 3]
    assert all(torch.equal(before[key], value) for key, value in fused.state_dict().items())
    plain(*batch).sum().backward()
    assert_same(plain, twin)


def test_a_copy_made_during_a_forward(fused, batch):
    copies = []
    hook = fused.plain.register_forward_pre_hook(lambda m, a: copies.append(copy.deepcopy(fused)))
    fused(*batch)
    hook.remove()
    assert nothing_left(copies[0])
    copies[0].plain._forward_pre_hooks.clear()
    copies[0](*batch).sum().backward()


def test_state_dict_is_that_of_the_unfused_model(critic, fused, batch):
    fused(*batch)
    assert list(fused.state_dict()) == list(critic(parametrizations.spectral_norm).state_dict())


def test_load_state_dict_and_to_are_seen_by_the_next_forward(critic, fused, batch):
    fused(*batch)
    expected = critic()
    with torch.no_grad():
        for p in expected.parameters():
            p.add_(0.1)
    fused.load_state_dict(expected.state_dict())
    assert torch.allclose(fused.eval()(*batch), expected.eval()(*batch), rtol=1e-12)
    output = fused.to(torch.float32)(batch[0].float(), batch[1])
    assert output.dtype == torch.float32 and torch.allclose(output.double(), expected(*batch), atol=1e-4)


def test_unfuse_takes_both_hooks_away(critic, fused, batch, calls):
    assert fuse_spectral_norm(fused) is fused
    assert len(fused._forward_pre_hooks) == len(fused._forward_hooks) == 1  # however often it is fused
    assert unfuse_spectral_norm(fused) is fused
    fused(*batch)
    assert calls == [1] * 4
    assert not fused._forward_pre_hooks and not fused._forward_hooks and not fused._forward_hooks_always_called


def test_layers_may_leave_and_join_a_fused_model(critic, fused, batch):
    parametrize.remove_parametrizations(fused.conv.eval(), "weight")
    fused.up = fastgan.nn.SNConvTranspose2d(8, 6, 4, stride=2, padding=1, dtype=torch.float64)
    fused(*batch).sum().backward()
    assert fused.conv.weight.grad is not None and fused.up.parametrizations.weight.original.grad is not None
    assert nothing_left(fuse_spectral_norm(fused))


def test_a_data_parallel_replica_does_not_iterate_the_original(fused, batch):
    replica = fused._replicate_for_data_parallel()
    before = copy.deepcopy(fused.state_dict())
    replica.forward = lambda: None
    replica()
    assert all(torch.equal(before[key], value) for key, value in fused.state_dict().items())


def test_a_single_layer_can_be_fused(calls):
    layer = fuse_spectral_norm(SNConv2d(3, 4, 3))
    calls.clear()
    layer(torch.ones(1, 3, 4, 4)).sum().backward()
    assert calls == [1]


def test_a_model_without_spectral_norm_is_left_alone():
    model = fuse_spectral_norm(nn.Linear(3, 2))
    assert model(torch.ones(3)).shape == (2,)


# --- threads, checkpointing, removal, tracing


@pytest.mark.parametrize("grad", [False, True])
def test_evaluation_from_several_threads(grad):
    """Also with a graph: a ready weight belongs to the thread that normalised it."""
    torch.manual_seed(0)
    model, x = fuse_spectral_norm(mlp(*[4] * 9)).eval(), torch.randn(2, 4)
    expected, errors, interval = model(x).detach(), [], sys.getswitchinterval()

    def serve():
        for _ in range(100):
            try:
                with torch.set_grad_enabled(grad):
                    y = model(x)
                if grad:
                    torch.autograd.grad(y.sum(), list(model.parameters()))
                assert torch.allclose(y, expected, rtol=1e-5)
            except Exception as error:
                errors.append(error)

    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert not errors


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("fuse", [False, True])
def test_the_recomputation_of_checkpointing_does_not_iterate(fuse, reentrant, assert_same):
    torch.manual_seed(0)
    model = mlp(6, 6, 6)
    for layer in model:
        nn.init.normal_(layer.parametrizations.weight.original)  # u and v are far from settled
    twin = copy.deepcopy(model)
    if fuse:
        fuse_spectral_norm(model)
    x = torch.randn(3, 6, requires_grad=True)
    checkpoint(model, x, use_reentrant=reentrant).sum().backward()
    twin(x).sum().backward()
    assert_same(twin, model, rtol=1e-5)


def unsettled(fuse, *widths):
    """Two equal models with u and v far from settled, so that each iteration changes the gradient."""
    torch.manual_seed(0)
    model = mlp(*widths)
    for layer in model:
        nn.init.normal_(layer.parametrizations.weight.original)
        for vector in (layer.parametrizations.weight[0]._u, layer.parametrizations.weight[0]._v):
            vector.copy_(nn.functional.normalize(torch.randn_like(vector), dim=0))
    twin = copy.deepcopy(model)
    return (fuse_spectral_norm(model) if fuse else model), twin


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("fuse", [False, True])
def test_a_recomputation_after_another_forward_raises(fuse, reentrant):
    model, _ = unsettled(fuse, 6, 6, 6)
    x = torch.randn(3, 6, requires_grad=True)
    for between in (
        lambda: checkpoint(model, x, use_reentrant=reentrant),
        lambda: model(x),
        lambda: torch.no_grad()(model)(x),
    ):
        y = checkpoint(model, x, use_reentrant=reentrant)
        between()
        with pytest.raises(RuntimeError, match="call backward before the next training forward"):
            y.sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("fuse", [False, True])
def test_checkpointed_forwards_with_a_backward_each_have_the_gradients_of_plain_ones(fuse, reentrant, assert_same):
    model, twin = unsettled(fuse, 6, 6, 6)
    x = torch.randn(3, 6, requires_grad=True)
    for _ in range(3):
        for m in (model, twin):
            torch.no_grad()(m)(x)
        y = checkpoint(model, x, use_reentrant=reentrant)
        model.eval()
        model(x)  # evaluation does not iterate
        model.train()
        for _ in range(2):
            y.sum().backward(retain_graph=True)
        (2 * twin(x)).sum().backward()
    assert_same(twin, model, rtol=1e-5)


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_layer_that_a_checkpointed_function_uses_twice_raises(reentrant):
    model, _ = unsettled(False, 6, 6, 6)
    x = torch.randn(3, 6, requires_grad=True)
    with pytest.raises(RuntimeError, match="use the layer once in a checkpointed function"):
        checkpoint(lambda x: model(model(x)), x, use_reentrant=reentrant).sum().backward()


@pytest.mark.parametrize(("fuse", "reentrant"), [(False, False), (False, True), (True, True)])
def test_checkpointing_each_layer_has_the_gradients_of_a_plain_forward(fuse, reentrant, assert_same):
    model, twin = unsettled(False, 6, 6, 6, 6)
    part = nn.Sequential(*model)
    model.forward = lambda x: [x := checkpoint(layer, x, use_reentrant=reentrant) for layer in part][-1]
    if fuse:
        fuse_spectral_norm(model)
    x = torch.randn(3, 6, requires_grad=True)
    model(x).square().sum().backward()
    twin(x).square().sum().backward()
    assert_same(twin, model, rtol=1e-5)


def test_a_layer_whose_parametrization_was_removed_is_left_alone(calls):
    model = fuse_spectral_norm(mlp(4, 4, 4))
    parametrize.remove_parametrizations(model[0], "weight")
    calls.clear()
    model(torch.randn(2, 4))
    assert calls == [1]
    parametrize.remove_parametrizations(model[1], "weight")
    calls.clear()
    model(torch.randn(2, 4))
    assert calls == []


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fuse", [False, True])
def test_a_trace_in_evaluation_holds_torchs_operations_only(fuse):
    model, x = mlp(4, 4, 4).eval(), torch.randn(2, 4)
    traced = torch.jit.trace(fuse_spectral_norm(model) if fuse else model, x)
    assert "fastgan::" not in str(traced.inlined_graph)
    assert torch.allclose(traced(x), model(x), rtol=1e-5)


def test_a_compiled_loop_does_not_recompile_for_a_second_forward_in_the_same_state():
    torch.compiler.reset()
    models = [fuse_spectral_norm(mlp(4, 4, 4)) for _ in range(2)]
    calls = [torch.compile(model, backend="aot_eager", fullgraph=True) for model in models]
    x = torch.randn(2, 4)
    for call in calls:
        call(x)
    with torch.compiler.set_stance("fail_on_recompile"):
        for call in calls:
            call(x)
