import json

import pytest
import torch
from PIL import Image

from fastgan import cli, data
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
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, words):
    assert cli.main(["compare", *arguments, "--run-dir", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err


def test_every_recipe_is_listed_with_its_paper(capsys):
    assert cli.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("r3gan") and "Huang et al., 2024" in line for line in lines)
