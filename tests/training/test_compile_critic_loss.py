"""The critic's whole loss with its penalties, compiled as one graph: the numbers of eager."""

import copy

import pytest
import torch
from torch import nn

import fastgan
from fastgan import Recipe, losses, penalties
from fastgan.penalties import DRAGAN, R1, R2, WGANGP, CriticDrift, LeCam, initial_states
from fastgan.penalties.critic import Critic
from fastgan.training import compile_critic_loss
from fastgan.training.step.objective import Objective, terms_of


class SmallCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.label = fastgan.nn.SNConv2d(2, 4, 3, padding=1), nn.Embedding(3, 4)
        self.weight = nn.Parameter(torch.ones(4))
        self.attention = fastgan.nn.SelfAttention2d(4)
        nn.init.ones_(self.attention.gamma)

    def forward(self, x, labels=None):
        x = fastgan.ops.group_norm(self.conv(x), 2, self.weight)
        x = self.attention(fastgan.ops.bias_act(x, act="silu")).mean((2, 3))
        return (x if labels is None else x * self.label(labels)).sum(1)


@pytest.mark.parametrize(
    ("terms", "options"),
    [
        ((R1(), R2(), LeCam(), CriticDrift()), {"backend": "aot_eager"}),
        ((WGANGP(), DRAGAN(c=0.1)), {"backend": "aot_eager"}),
        ((WGANGP(), R1()), {}),
    ],
    ids=["shared", "drawn", "inductor"],
)
def test_the_compiled_loss_equals_eager(terms, options):
    torch.compiler.reset()
    torch.manual_seed(0)
    eager = SmallCritic()
    compiled = copy.deepcopy(eager)
    objective = Objective(losses.get("hinge"), terms_of(terms))
    critic_loss = compile_critic_loss(objective.loss, terms, **options)
    states, theirs = initial_states(terms), initial_states(terms)
    for step in range(2):  # the second meets other labels and moved spectral vectors
        labels = torch.tensor([step, 2, 1])
        real, fake = torch.randn(2, 3, 2, 6, 6)
        draws = [torch.Generator().manual_seed(step) for _ in range(2)]
        total, values = critic_loss(Critic(compiled, labels), real, fake, states=states, rng=draws[0])
        prepared = penalties.prepare(terms, Critic(eager, labels), real, fake, rng=draws[1])
        expected, numbers = objective.of_prepared(Critic(eager, labels), prepared, theirs)
        assert values.keys() == numbers.keys()
        torch.testing.assert_close(values, numbers)
        total.backward()
        expected.backward()
        for (name, ours), want in zip(compiled.named_parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, want.grad, rtol=1e-4, atol=1e-5, msg=name)
    torch.testing.assert_close(states, theirs)


@pytest.mark.parametrize(("precision", "parts"), [("fp32", 1), ("bf16", 2)])
def test_a_recipe_may_compile_its_critics_loss(precision, parts, toy, tmp_path, monkeypatch):
    """Each set of due terms is compiled once; a scheduled weight changes without a further graph."""
    torch.compiler.reset()
    graphs, compile_ = [], torch.compile

    def counting(graph, inputs):
        graphs.append(graph)
        return graph

    points = torch.randn(50, 2)
    recipe = {
        "batch_size": 8,
        "penalties": ("R1(gamma=1.0)", "R2(gamma=1.0, every=3)"),
        "schedules": ("Schedule('R1.gamma', to=9.0, steps=6)",),
        "precision": precision,
        "accumulate": parts,
        "spectral_norm": "none",
    }

    def pair():  # without the list of batches, which a graph would be compiled for again
        generator, discriminator = toy.pair()
        return generator, discriminator.layers.append(nn.Flatten(0))

    eager = toy.trainer_of(Recipe(**recipe), pair(), points, tmp_path / "eager")
    eager.fit(6)
    monkeypatch.setattr(torch, "compile", lambda f, mode, **options: compile_(f, backend=counting, **options))
    compiled = toy.trainer_of(Recipe(**recipe, compile=True), pair(), points, tmp_path / "compiled")
    compiled.fit(6)
    assert len(graphs) == 2
    for a, b in zip(*(t.callbacks[0].values for t in (compiled, eager)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(compiled.state.generator.parameters(), eager.state.generator.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"unroll_steps": 1}, "unroll_steps > 0"),
        ({"augment": "color", "augment_target": 0.6}, "augment_target"),
        ({"progressive": "ProgressiveSchedule()"}, "progressive"),
        ({"penalties": ("WGANGP()",), "schedules": ("Schedule('WGANGP.target', to=2.0, steps=9)",)}, "WGANGP.target"),
        ({"compile": "fast"}, "one of default, reduce-overhead"),
    ],
)
def test_what_cannot_be_compiled_is_refused(fields, reason):
    with pytest.raises(ValueError, match=f"compile must be .*{reason}"):
        Recipe(**{"compile": True} | fields)
