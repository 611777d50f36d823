"""A step's plan is a function of the step, and far steps cost nothing."""

import time
from types import SimpleNamespace

import pytest
import torch

from fastgan import Recipe
from fastgan.data import Order
from fastgan.training import ProgressiveSchedule, Schedule
from fastgan.training.recipe import presets
from fastgan.training.step.plan import StepSchedule

PLAIN, GROWN = SimpleNamespace(levels=None), SimpleNamespace(levels=2)
RECIPES = {
    "plain": (Recipe(batch_size=3, discriminator_steps=2), PLAIN),
    "bursts": (Recipe(batch_size=3, discriminator_steps=2, discriminator_burst=(5, 4, 6)), PLAIN),
    "one burst": (Recipe(batch_size=3, discriminator_burst=(5, 4, 0), pack=2), PLAIN),
    "bursts of every": (Recipe(batch_size=3, discriminator_burst=(5, 0, 7)), PLAIN),
    "growing": (
        Recipe(
            batch_size=4,
            discriminator_steps=2,
            discriminator_burst=(3, 2, 5),
            progressive=ProgressiveSchedule(phase_images=12, batch_sizes=(6, 3)),
        ),
        GROWN,
    ),
}


def counted(schedule, start):
    """The position of the first update of step `start`, counted step by step."""
    return sum(plan.samples * plan.discriminator_steps for plan in map(schedule.at, range(start)))


@pytest.mark.parametrize("name", RECIPES)
def test_an_update_finds_its_samples_wherever_the_run_goes_on(name):
    recipe, generator = RECIPES[name]
    schedule, order = StepSchedule(recipe, generator), Order(50, 0)
    for start in range(40):
        expected = order.take(counted(schedule, start), schedule.at(start).samples)
        assert torch.equal(next(schedule.updates(order, start)), expected)


@pytest.mark.parametrize("name", ["sngan", "r3gan", "wgan-code", "progan"])
def test_step_500_000_is_as_near_as_the_first(name):
    schedule = StepSchedule(presets.recipe(name).settings, SimpleNamespace(levels=5))
    begin = time.process_time()
    next(schedule.updates(Order(1000, 0), start=500_000))
    assert time.process_time() - begin < 1


def test_a_recipe_in_force_is_not_checked_again(monkeypatch):
    recipe = presets.recipe("r3gan").settings
    monkeypatch.setattr(Recipe, "__post_init__", lambda self: pytest.fail("checked again"))
    there = recipe.at(10_000)
    assert there.betas == (0.0, 0.99) and [p.gamma for p in there.penalties] == pytest.approx([0.005] * 2)
    assert [p.gamma for p in recipe.penalties] == [0.05] * 2


@pytest.mark.parametrize(
    ("field", "setting", "words"),
    [
        ("betas.1", {"to": 1.0}, "betas.1 reaches 1.0.* betas must be"),
        ("ema_decay", {"to": 1.0}, "ema_decay reaches 1.0"),
        ("generator_lr", {"to": -1.0}, "generator_lr reaches -1.0"),
        ("generator_lr", {"to": 0.0, "start": -1.0}, "generator_lr reaches -1.0"),
        ("R1.gamma", {"to": -1.0}, "R1.gamma reaches -1.0.* R1's gamma"),
        ("eps", {"to": -1.0}, "eps reaches -1.0"),
        *(
            (name, {"to": 1.0}, "is not a number that may change")
            for name in ("seed", "batch_size", "R1.every", "loss")
        ),
        ("augment_target", {"to": 0.6}, "augment_target must be above 0"),
    ],
)
def test_a_schedule_is_checked_over_its_whole_length(field, setting, words):
    with pytest.raises(ValueError, match=f"^schedules: .*{words}"):
        Recipe(penalties=("R1()",), schedules=(Schedule(field, steps=3, **setting),), augment="color")


@pytest.mark.parametrize(
    "setting", [{"to": float("inf")}, {"steps": 1.5}, {"begin": "x"}, {"start": "x"}, {"to": True}]
)
def test_a_schedule_is_made_of_numbers(setting):
    (name,) = setting
    with pytest.raises(ValueError, match=f"^{name} must be"):
        Schedule(**({"field": "generator_lr", "to": 0.0, "steps": 2} | setting))
