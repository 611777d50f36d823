"""The four passes in a run: the route that is reported, batches in parts, hooks that come later."""

import copy

import pytest
import torch
from torch import nn

import fastgan
from fastgan import Recipe, Trainer
from fastgan.penalties import R1, R2
from fastgan.penalties.four_passes import graph
from tests.penalties.four_passes.reference import assert_equal_gradients, by_autograd, by_backward

POINTS = torch.randn(32, 2, generator=torch.Generator().manual_seed(0))


def trained(folder, recipe, monkeypatch, least_work):
    monkeypatch.setattr(graph, "LEAST_WORK", least_work)
    torch.manual_seed(0)
    pair = fastgan.models.create("mlp", features=2, width=16, pack=recipe.pack)
    trainer = Trainer(*pair, recipe, POINTS, run_dir=folder, device="cpu", log_every=1)
    trainer.fit(2)
    return trainer, torch.cat([p.detach().flatten() for network in pair for p in network.parameters()])


@pytest.mark.parametrize(
    "settings",
    [{"accumulate": 2}, {"update": "simultaneous"}, {"pack": 2, "discriminator_steps": 2}],
    ids=["accumulate", "simultaneous", "packs"],
)
def test_a_run_takes_four_passes_says_so_and_gives_the_networks_of_the_general_route(
    settings, tmp_path, monkeypatch, capfd
):
    recipe = Recipe(batch_size=8, loss="non_saturating", penalties=(R1(1.0),), **settings)
    trainer, ours = trained(tmp_path / "four", recipe, monkeypatch, least_work=0)
    assert trainer.route.startswith("four passes: ")
    assert capfd.readouterr().err.count(f"gradient penalty: {trainer.route}\n") == 1
    trainer, theirs = trained(tmp_path / "general", recipe, monkeypatch, least_work=float("inf"))
    small = settings.get("update") != "simultaneous"  # which takes the four passes for the generator's gradient
    assert trainer.route.startswith("general: The critic is too small" if small else "four passes: ")
    assert f"gradient penalty: {trainer.route}\n" in capfd.readouterr().err
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


class Hooked(nn.Module):
    """A critic whose activation gets a hook when `hook` is set."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.hook = nn.Linear(2, 8), None
        self.rest = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
        self.double()

    def forward(self, x):
        h = torch.relu(self.first(x))
        if self.hook is not None:
            h.register_hook(self.hook)
        return self.rest(h)


@pytest.mark.parametrize(
    "hook",
    [lambda g: g.clamp(-0.05, 0.05), lambda g: g * 0.5, lambda g: g.roll(1, 0), lambda g: g + 0.1],
    ids=["clamp", "factor", "rows exchanged", "summand"],
)
@pytest.mark.parametrize("terms", [(R1(),), (R1(), R2())], ids=["R1", "R1 and R2"])
def test_a_hook_that_comes_after_the_first_step_is_seen(hook, terms):
    critic, batches = Hooked(), torch.randn(2, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert by_backward(critic, "hinge", terms, *batches).route == "four passes"
    critic.hook = hook
    twin = copy.deepcopy(critic)
    twin.zero_grad(set_to_none=True)
    by_autograd(twin, "hinge", terms, *batches)
    for _ in range(2):
        critic.zero_grad(set_to_none=True)
        result = by_backward(critic, "hinge", terms, *batches, keep_fake_gradient=len(terms) == 2)
        assert result.route == "general" and "hook" in result.reason and result.fake_gradient is None
        assert_equal_gradients(critic, twin)
