"""Fields of the recipe, through Trainer: each does what its paper says, and nothing where it is off."""

import copy

import pytest
import torch
from torch import nn

import fastgan
from fastgan import Recipe, Trainer, losses
from fastgan.nn.pack import pack, unpack
from fastgan.penalties import Critic
from fastgan.training.run.metrics_log import read_metrics
from fastgan.training.step import augmentation
from fastgan.training.step.objective import Objective, terms_of
from fastgan.training.step.state import TrainState
from fastgan.training.step.updates import simultaneous, update_discriminator, update_generator

POINTS = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))


def fit(toy, run_dir, recipe, steps=2, networks=None, data=POINTS):
    trainer = Trainer(*(networks or toy.pair()), recipe, data, run_dir=run_dir, device="cpu", progress=False)
    trainer.fit(steps)
    return trainer.state


def parameters(network):
    return [p.detach().clone() for p in network.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# --- packing


def test_a_pack_is_independent_samples_on_channels():
    x = torch.arange(24.0).reshape(6, 2, 2, 1)
    packed = pack(x, 3)
    assert packed.shape == (2, 6, 2, 1)
    assert torch.equal(packed[0], torch.cat([x[0], x[1], x[2]])) and torch.equal(unpack(packed, 3), x)
    assert pack(torch.arange(6), 2).tolist() == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match="the batch must be a multiple of m=2, got 5 samples"):
        pack(torch.zeros(5, 2), 2)


def test_pack_1_is_bit_identical_to_no_packing(toy, tmp_path):
    one, default = (
        fit(toy, tmp_path / str(i), r) for i, r in enumerate([Recipe(batch_size=8, pack=1), Recipe(batch_size=8)])
    )
    assert same(parameters(one.generator), parameters(default.generator))


def test_packs_reach_the_critic_and_the_penalty_whole(toy, tmp_path):
    seen = []

    class Packed(toy.Discriminator):
        def __init__(self):
            super().__init__()
            self.layers[0] = nn.Linear(6, 8)

    def penalty(critic, *, real, fake):
        seen.append((tuple(real.shape), tuple(fake.shape)))
        return critic(real).mean()

    generator, _ = toy.pair()
    fit(toy, tmp_path, Recipe(batch_size=4, pack=3, penalties=(penalty,)), networks=(generator, Packed()))
    assert seen == [((4, 6), (4, 6))] * 3  # the first pass, then two steps


def test_augmentation_treats_the_images_of_a_pack_one_by_one():
    batches = []
    critic = Critic(lambda x: x, augment=lambda x: batches.append(x.shape) or x, pack=2)
    critic(torch.zeros(3, 4, 5, 5))
    assert batches == [(6, 2, 5, 5)]


def test_the_augmentations_probability_rises_within_the_images_that_the_recipe_says():
    recipe = Recipe(augment="color", augment_target=0.6, augment_images=1000)
    memory = augmentation.initial_memory(recipe)
    for _ in range(8):  # of 50: it moves every four observations
        augmentation.observe(recipe, memory, torch.ones(50))
    assert memory["augment"]["p"].item() == pytest.approx(0.4)
    assert augmentation.augmentation(recipe, memory).keywords["p"] is memory["augment"]["p"]


# --- order and number of updates


def test_simultaneous_players_answer_each_others_old_weights(toy):
    torch.manual_seed(0)
    real, z = torch.randn(4, 2), torch.randn(4, 3)
    objective = Objective(losses.get("non_saturating"))
    # By SGD: Adam's first step divides by the gradient's size, and a bias before batch norm has rounding alone for one.
    recipe = Recipe(optimizer="sgd", generator_lr=0.1, discriminator_lr=0.1)
    state = TrainState.create(*toy.pair(), recipe)
    twin = copy.deepcopy(state)
    twin.reset_optimizers(recipe)
    simultaneous(state, objective, next_batch=lambda: (real, None), next_latents=lambda: z)

    # The twin's generator moves first, against the critic as it was; then the critic against the generator as it was.
    before = copy.deepcopy(twin.generator)
    update_generator(twin, objective, real, None, z)
    moved, twin.generator = twin.generator, before
    update_discriminator(twin, objective, real, None, z)
    for a, b in ((state.generator, moved), (state.discriminator, twin.discriminator)):
        for x, y in zip(a.parameters(), b.parameters(), strict=True):
            torch.testing.assert_close(x, y)


def test_generator_steps_and_bursts_are_counted(toy, tmp_path):
    counts = {"D": 0, "G": 0}
    recipe = Recipe(batch_size=4, discriminator_steps=2, generator_steps=3, discriminator_burst=(5, 1, 0))
    trainer = Trainer(*toy.pair(), recipe, POINTS, run_dir=tmp_path, device="cpu", progress=False)
    for name, optimizer in (("D", trainer.state.discriminator_optimizer), ("G", trainer.state.generator_optimizer)):
        optimizer.register_step_post_hook(lambda *_, name=name: counts.__setitem__(name, counts[name] + 1))
    trainer.fit(3)
    assert counts == {"D": 5 + 2 + 2, "G": 9}


def test_accumulated_parts_are_the_whole_batch(toy):
    torch.manual_seed(0)
    real, z = torch.randn(8, 2), torch.randn(8, 3)
    objective = Objective(losses.get("hinge"))
    grads = []
    for parts in (1, 4):
        generator, discriminator = toy.pair()
        state = TrainState.create(generator.eval(), discriminator, Recipe())
        state.generator.eval()  # batch norm's statistics are those of a part
        update_discriminator(state, objective, real, None, z, parts)
        update_generator(state, objective, real, None, z, parts)
        grads.append([p.grad for network in (generator, discriminator) for p in network.parameters()])
    torch.testing.assert_close(*grads)


def test_a_loss_that_averages_over_the_batch_is_not_cut():
    coupled = [name for name in losses.names() if getattr(losses.get(name), "couples_batch", False)]
    for name in coupled:
        with pytest.raises(ValueError, match="accumulate must be 1 under loss"):
            Recipe(loss=name, accumulate=2)


# --- optimisers, schedules, lazy terms


def test_optimizers_are_the_recipes(toy):
    for name, kind in (("adam", torch.optim.Adam), ("rmsprop", torch.optim.RMSprop), ("sgd", torch.optim.SGD)):
        state = TrainState.create(*toy.pair(), Recipe(optimizer=name, generator_lr=0.5, discriminator_lr=0.25))
        assert type(state.generator_optimizer) is kind
        assert (state.generator_optimizer.defaults["lr"], state.discriminator_optimizer.defaults["lr"]) == (0.5, 0.25)


def test_a_schedule_moves_the_learning_rate_and_a_resume_finds_it(toy, tmp_path):
    recipe = Recipe(batch_size=8, schedules=("Schedule('generator_lr', to=0.0, steps=4)",))
    state = fit(toy, tmp_path / "a", recipe, steps=3)
    assert state.generator_optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-4)
    before = parameters(fit(toy, tmp_path / "b", recipe, steps=4).generator)
    fit(toy, tmp_path / "c", recipe, steps=2)
    trainer = Trainer(*toy.pair(), recipe, POINTS, run_dir=tmp_path / "c", resume=True, device="cpu", progress=False)
    trainer.fit(4)
    assert same(parameters(trainer.state.generator), before)


def test_a_lazy_penalty_counts_as_often_as_it_was_left_out(toy):
    class Lazy:
        every = 4

        def __call__(self, critic, *, real, fake):
            return critic(real).square().mean()

    state = TrainState.create(*toy.pair(), Recipe())
    real, fake = torch.randn(4, 2), torch.randn(4, 2)
    critic = Critic(state.discriminator)
    for step in range(8):
        _, values = Objective(losses.get("hinge"), terms_of((Lazy(),), step=step)).discriminator(critic, real, fake)
        if step % 4:
            assert "Lazy" not in values
        else:
            torch.testing.assert_close(values["Lazy"], 4 * critic(real).square().mean())


def test_a_penalty_remembers_in_the_checkpoint(toy, tmp_path):
    recipe = Recipe(batch_size=4, penalties=("LeCam(weight=0.1)",))
    assert fit(toy, tmp_path, recipe, steps=3).memory["LeCam"]["updates"] == 3
    trainer = Trainer(*toy.pair(), recipe, POINTS, run_dir=tmp_path, resume=True, device="cpu", progress=False)
    trainer.fit(5)
    assert trainer.state.memory["LeCam"]["updates"] == 5


def test_generator_terms_get_what_they_may_ask_for(toy, tmp_path):
    seen = {}

    def term(critic, *, real, fake, generator, latents, condition):
        seen.update(fake=fake, generator=generator, latents=latents, condition=condition)
        return fake.square().mean()

    state = fit(toy, tmp_path, Recipe(batch_size=4, generator_terms=(term,)), steps=1)
    assert seen["fake"].requires_grad and seen["generator"] is state.generator
    assert seen["latents"].shape == (4, 3) and seen["condition"] is None


# --- spectral norm and unrolling by a field


@pytest.mark.parametrize("where", ["discriminator", "generator", "both"])
def test_spectral_norm_by_one_field_for_any_network(toy, tmp_path, where):
    state = fit(toy, tmp_path, Recipe(batch_size=4, spectral_norm=where))
    for name, network in (("generator", state.generator), ("discriminator", state.discriminator)):
        normalized = "layers.0.parametrizations.weight.original" in network.state_dict()
        assert normalized == (where in (name, "both"))
    if where != "generator":
        sigma = torch.linalg.matrix_norm(state.discriminator.eval().layers[0].weight, 2)
        assert sigma.item() == pytest.approx(1, abs=0.05)


def test_the_unrolled_recipe_trains_and_resumes(toy, tmp_path):
    recipe = Recipe(loss="minimax", batch_size=8, unroll_steps=2, update="simultaneous", betas=(0.5, 0.999))
    whole = parameters(fit(toy, tmp_path / "whole", recipe, steps=4).generator)
    fit(toy, tmp_path / "halves", recipe, steps=2)
    trainer = Trainer(
        *toy.pair(5), recipe, POINTS, run_dir=tmp_path / "halves", resume=True, device="cpu", progress=False
    )
    trainer.fit(4)
    assert same(whole, parameters(trainer.state.generator))
    ordinary = parameters(
        fit(
            toy,
            tmp_path / "ordinary",
            Recipe(loss="minimax", batch_size=8, update="simultaneous", betas=(0.5, 0.999)),
            steps=4,
        ).generator
    )
    assert not same(whole, ordinary)


def test_weight_clipping_is_a_constraint_of_the_step(toy, tmp_path):
    for when in ("before", "after"):
        clip = fastgan.penalties.WeightClip(0.01, when=when)
        recipe = Recipe(loss="wasserstein", optimizer="rmsprop", discriminator_lr=0.1, penalties=(clip,), batch_size=8)
        state = fit(toy, tmp_path / when, recipe)
        within = all(p.abs().max() <= 0.01 for p in state.discriminator.parameters())
        assert within == (when == "after")


@pytest.mark.parametrize(
    "tricks",
    [
        {"penalties": ("LeCam(weight=1.0)",)},
        {"generator_terms": ("PathLength()",)},
        {"augment": "color", "augment_target": 0.6},
    ],
    ids=repr,
)
def test_a_memory_moves_once_a_step_by_the_whole_batch(toy, tmp_path, tricks):
    """One step: what follows it depends on the parts through the memory that each of them begins with."""
    memories, values = [], []
    images = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    class Linear(torch.nn.Module):
        couples_samples, z_dim, shape = False, 64, (1, 8, 8)

        def __init__(self, critic):
            super().__init__()
            torch.manual_seed(1)
            self.linear, self.critic = torch.nn.Linear(64, 1 if critic else 64), critic

        def forward(self, x):
            return self.linear(x.flatten(1)).flatten() if self.critic else self.linear(x).view(-1, 1, 8, 8)

    for parts in (1, 4):
        recipe = Recipe(batch_size=16, accumulate=parts, augment_images=100, **tricks)
        pair = Linear(False), Linear(True)
        run = Trainer(*pair, recipe, images, run_dir=tmp_path / str(parts), device="cpu", progress=False, log_every=1)
        run.fit(1)
        ((memory),) = run.state.memory.values()
        memories.append(memory)
        values.append(read_metrics(run.folder.metrics)[0])
    assert {memories[1][name].item() for name in ("updates", "observations") if name in memories[1]} == {1.0}
    if "PathLength" not in str(tricks):  # which draws its noise part by part
        torch.testing.assert_close(*memories)
        for name in ("d_loss", "d_real", "d_fake"):
            assert values[0][name] == pytest.approx(values[1][name], rel=1e-4)
