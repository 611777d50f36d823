import json

import pytest
import torch
from PIL import Image

from fastgan import cli, data, training
from fastgan.training import Recipe
from fastgan.training.compare import compare
from fastgan.training.recipe.presets import recipe

SMALL = {"width": 8, "settings": {"batch_size": 8}, "progress": False, "device": "cpu"}


def test_recipes_have_the_same_budget_and_seeds(tmp_path):
    recipes = {name: recipe(name) for name in ("pacgan1", "pacgan2")}
    outcomes = compare(recipes, data.ring(count=200), steps=4, seeds=2, moments=2, run_dir=tmp_path, **SMALL)
    assert [o.recipe for o in outcomes] == ["pacgan1", "pacgan2"]
    for outcome in outcomes:
        assert outcome.moments == [2, 4] and [s.shape for s in outcome.samples] == [(1000, 2)] * 2
        assert set(outcome.scores) == {"modes", "high quality", "reverse KL"}
        assert len(outcome.scores["modes"]) == 2 and len(outcome.over_time["modes"][0]) == 2
        assert outcome.log[-1]["step"] == 4
    first, second = (outcome.parameters for outcome in outcomes)
    assert first[0] == second[0] and first[1] < second[1]  # packing widens the critic's first layer alone


def test_a_comparison_that_is_there_is_not_trained_again(tmp_path):
    recipes, points = {"pacgan1": recipe("pacgan1")}, data.ring(count=200)
    first, again = (compare(recipes, points, steps=2, moments=1, run_dir=tmp_path, **SMALL) for _ in range(2))
    assert torch.equal(first[0].samples[0], again[0].samples[0]) and str(first[0].scores) == str(again[0].scores)


def test_the_command_prints_a_table_and_leaves_a_figure(tmp_path, capsys):
    flags = ["--data", "grid", "--steps", "2", "--width", "8", "--batch-size", "8", "--run-dir", str(tmp_path)]
    assert cli.main(["compare", "minimax", "pacgan2", *flags]) == 0
    said = capsys.readouterr().out
    assert "recipe" in said and "pacgan2" in said and "reverse KL" in said
    assert Image.open(tmp_path / "comparison.png").width > 300
    kept = json.loads((tmp_path / "comparison.json").read_text())
    assert [o["recipe"] for o in kept["outcomes"]] == ["minimax", "pacgan2"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "name the recipes to compare"),
        (["nogan"], "recipe must be one of"),
        (["wgan", "--seeds", "0"], "seeds must"),
        (["wgan", "--seeds", "9-7"], "seeds must"),
        (["wgan", "--seeds", "1,1"], "seeds must"),
        (["wgan", "--set", "pack"], "set must be field=value"),
        (["wgan", "--set", "packs=2"], "a recipe has no field packs"),
        (["mine.yaml"], "there is no such file"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, words):
    assert cli.main(["compare", *arguments, "--run-dir", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_every_recipe_is_listed_with_its_paper(capsys):
    assert cli.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("r3gan") and "Huang et al., 2024" in line for line in lines)


def test_set_seeds_and_own_toys(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("recipe: pacgan1\ngenerator_lr: 3e-4\n")
    flags = ["--data", "ring:modes=5,radius=2,sigma=0.1", "--steps", "2", "--width", "8", "--seeds", "100-101"]
    flags += ["--set", "pack=3", "batch_size=9", "penalties=R1(gamma=2.0)", "betas=[0.1, 0.9]"]
    assert cli.main(["compare", str(tmp_path / "mine.yaml"), *flags, "--run-dir", str(tmp_path / "runs")]) == 0
    runs = tmp_path / "runs" / "mine"
    assert sorted(path.name for path in runs.iterdir()) == ["seed_100", "seed_101"]
    kept = Recipe.load(runs / "seed_101" / "recipe.yaml")
    assert (kept.seed, kept.pack, kept.batch_size, kept.betas) == (101, 3, 9, (0.1, 0.9))
    assert kept.generator_lr == 3e-4 and kept.penalties[0].gamma == 2.0 and kept.update == "simultaneous"
    assert len(json.loads((tmp_path / "runs/comparison.json").read_text())["outcomes"][0]["scores"]["modes"]) == 2


def test_build_is_a_trainer_in_a_line(tmp_path):
    trainer = training.build(
        "pacgan2", "grid:side=2", settings={"seed": 3}, width=8, run_dir=tmp_path, device="cpu", progress=False
    )
    trainer.fit(1)
    assert (trainer.recipe.pack, trainer.recipe.seed, trainer.state.step) == (2, 3, 1)
    assert len(trainer.data.modes) == 4 and trainer.setup["model"]["width"] == 8


@pytest.mark.parametrize(
    "text, words",
    [
        ("ring:modes=0", "modes must be an integer of at least 1"),
        ("ring:radius=wide", "radius must be a finite number"),
        ("ring:radius=-1", "radius must be a finite number above 0"),
        ("grid:sides=3", "the arguments are preset, count, seed, side, scale, sigma"),
        ("ring:preset=mine", "preset must be one of"),
    ],
)
def test_a_toy_that_cannot_be_is_explained(text, words):
    with pytest.raises(ValueError, match=words):
        data.load(text)
