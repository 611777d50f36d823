import pytest
import torch

from fastgan import Recipe, losses
from fastgan.nn.couples_samples import couples_samples
from fastgan.penalties import R1, R2
from fastgan.penalties.critic import Critic
from fastgan.training.step.objective import Objective, terms_of
from fastgan.training.step.state import TrainState
from fastgan.training.step.updates import alternating, simultaneous, update_discriminator, update_generator

HINGE = Objective(losses.get("hinge"))


def make_state(toy, **kw):
    return TrainState.create(*toy.pair(**kw), Recipe())


def snapshot(network):
    return [p.detach().clone() for p in network.parameters()]


def changed(network, before):
    return any(not torch.equal(p, b) for p, b in zip(network.parameters(), before, strict=True))


def test_generator_update_computes_no_gradient_of_the_discriminator(toy):
    state = make_state(toy)
    before = snapshot(state.discriminator)
    update_generator(state, HINGE, torch.randn(4, 2), None, torch.randn(4, 3))
    assert all(p.grad is None for p in state.discriminator.parameters())
    assert all(p.requires_grad for p in state.discriminator.parameters())
    assert not changed(state.discriminator, before)
    assert all(p.grad is not None for p in state.generator.parameters())


def test_parameters_frozen_by_the_user_stay_frozen(toy):
    generator, discriminator = toy.pair()
    discriminator.layers[0].weight.requires_grad_(False)
    state = TrainState.create(generator, discriminator, Recipe())
    update_generator(state, HINGE, torch.randn(4, 2), None, torch.randn(4, 3))
    assert [p.requires_grad for p in discriminator.parameters()] == [False, True, True, True]


def test_discriminator_update_builds_no_graph_of_the_generator(toy):
    state = make_state(toy)
    before = snapshot(state.generator)
    with_graph = []
    state.generator.register_forward_hook(lambda module, args, output: with_graph.append(output.requires_grad))
    update_discriminator(state, HINGE, torch.randn(4, 2), None, torch.randn(4, 3))
    assert with_graph == [False]
    assert all(p.grad is None for p in state.generator.parameters())
    assert not changed(state.generator, before)


def test_one_pass_of_the_critic_where_it_allows(toy):
    real, z = torch.randn(4, 2), torch.randn(4, 3)
    for batch_norm, batches in ((False, [8]), (True, [4, 4])):
        state = make_state(toy, batch_norm=batch_norm)
        assert couples_samples(state.discriminator) == batch_norm
        update_discriminator(state, HINGE, real, None, z)
        assert state.discriminator.batches == batches


def test_a_layer_may_say_that_it_couples_samples(toy):
    discriminator = toy.Discriminator()
    assert not couples_samples(discriminator)
    discriminator.layers[2].couples_samples = True
    assert couples_samples(discriminator)


def test_one_pass_and_two_give_the_same_update(toy):
    real, z = torch.randn(4, 2), torch.randn(4, 3)
    one, two = make_state(toy), make_state(toy)
    two.discriminator.couples_samples = True
    for state in (one, two):
        update_discriminator(state, HINGE, real, None, z)
    assert two.discriminator.batches == [4, 4]
    for a, b in zip(one.discriminator.parameters(), two.discriminator.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_step_is_so_many_critic_updates_on_fresh_batches_and_one_of_the_generator(toy, repeats):
    state, events = make_state(toy), []
    state.discriminator_optimizer.register_step_post_hook(lambda *_: events.append("D"))
    state.generator_optimizer.register_step_post_hook(lambda *_: events.append("G"))
    drawn = []

    def next_batch():
        drawn.append(torch.randn(4, 2))
        return drawn[-1], None

    values = alternating(
        state, HINGE, discriminator_steps=repeats, next_batch=next_batch, next_latents=lambda: torch.randn(4, 3)
    )
    assert events == ["D"] * repeats + ["G"] and len(drawn) == repeats
    assert list(values) == ["d_loss", "d_real", "d_fake", "g_loss"]
    assert not any(value.requires_grad for value in values.values())


def test_penalties_are_added_and_logged(toy):
    state = make_state(toy)
    seen = {}

    def penalty(critic, *, real, fake):
        seen.update(critic=critic, real=real, fake=fake)
        return critic(real).square().mean() * 100

    real, z = torch.randn(4, 2), torch.randn(4, 3)
    critic = Critic(state.discriminator)
    with torch.no_grad():
        fake = state.generator(z)
    total, values = Objective(HINGE.loss, terms_of((penalty, penalty))).discriminator(critic, real, fake)
    torch.testing.assert_close(total, values["d_loss"] + values["penalty"] + values["penalty_2"])
    assert seen["critic"] is critic and seen["real"] is real and seen["fake"] is fake
    assert values["penalty"] > 0


def test_the_generators_loss_gets_real_logits_where_it_needs_them(toy):
    state = make_state(toy)
    real, z = torch.randn(4, 2), torch.randn(4, 3)
    got = []

    def generator_loss(fake_logits, real_logits=None):
        got.append((fake_logits, real_logits))
        return (fake_logits - real_logits).mean()

    paired = losses.AdversarialLoss("paired", HINGE.loss.discriminator, generator_loss, generator_needs_real=True)
    update_generator(state, Objective(paired), real, None, z)
    ((fake_logits, real_logits),) = got
    assert fake_logits.requires_grad and real_logits.shape == (4,)
    torch.testing.assert_close(real_logits, state.discriminator(real))


def test_labels_reach_both_networks_and_both_halves(toy):
    state = make_state(toy, classes=5)
    labels = torch.tensor([0, 4, 2, 2])
    real, z = torch.randn(4, 2), torch.randn(4, 3)
    update_discriminator(state, HINGE, real, labels, z)
    used = state.discriminator.embedding.weight.grad.abs().sum(1) > 0
    assert used.tolist() == [True, False, True, False, True]
    logits, _ = Critic(state.discriminator, labels).both(real, real)
    torch.testing.assert_close(logits, state.discriminator(real, labels))


@pytest.mark.parametrize("terms", [(R1(0.5), R2(0.5)), (R1(0.5),), ()], ids=["R1 and R2", "R1", "none"])
def test_simultaneous_updates_call_the_critic_once_and_the_generators_gradient_is_autograds(toy, terms):
    state = make_state(toy)
    generator, discriminator = (n.double() for n in (state.generator, state.discriminator))
    discriminator.couples_samples = False  # no calls that measure the coupling
    real, z = torch.randn(4, 2, dtype=torch.double), torch.randn(4, 3, dtype=torch.double)
    objective = Objective(losses.get("relativistic_paired"), terms_of(terms))
    loss = objective.loss.generator(discriminator(generator(z)), discriminator(real))
    expected = torch.autograd.grad(loss, list(generator.parameters()))
    discriminator.batches.clear()
    values = simultaneous(state, objective, next_batch=lambda: (real, None), next_latents=lambda: z)
    assert sum(discriminator.batches) == 8
    torch.testing.assert_close(values["g_loss"], loss.detach(), rtol=1e-9, atol=1e-12)
    for parameter, gradient in zip(generator.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)
