import dataclasses

import pytest
import yaml

from fastgan import Recipe
from fastgan.training.recipes import RECIPES, recipe


@pytest.mark.parametrize(
    "field, value",
    [
        ("loss", "hingo"),
        ("penalties", [abs]),
        ("penalties", ("r1",)),
        ("generator_lr", 0.0),
        ("discriminator_lr", float("nan")),
        ("generator_lr", "fast"),
        ("betas", (0.5,)),
        ("betas", (0.5, 1.0)),
        ("discriminator_steps", 0),
        ("discriminator_steps", True),
        ("batch_size", 2.5),
        ("ema_decay", 1.0),
        ("seed", -1),
    ],
)
def test_a_wrong_value_is_refused_by_its_field(field, value):
    with pytest.raises(ValueError, match=f"^{field} must be .*; got "):
        Recipe(**{field: value})


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().seed = 1


def test_yaml_gives_back_the_same_recipe(tmp_path):
    before = Recipe(loss="minimax", generator_lr=1e-05, betas=(0.5, 0.999), seed=7)
    before.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == before


def test_yaml_holds_every_field_and_is_read_partly(tmp_path):
    path = tmp_path / "recipe.yaml"
    Recipe().save(path)
    assert list(yaml.safe_load(path.read_text())) == [field.name for field in dataclasses.fields(Recipe)]
    path.write_text("generator_lr: 1e-4\nbetas: [0, 0.9]\n")  # YAML takes this 1e-4 for text
    assert Recipe.load(path) == Recipe(generator_lr=1e-4, betas=(0, 0.9))


@pytest.mark.parametrize(
    "text, words",
    [("los: hinge", "has no field los; it has loss, "), ("seed: x", "seed must be"), ("7", "is no recipe")],
)
def test_a_wrong_file_is_refused_by_its_path(tmp_path, text, words):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"recipe.yaml: .*{words}"):
        Recipe.load(path)


def test_a_penalty_is_written_with_its_settings():
    @dataclasses.dataclass(frozen=True)
    class Pull:
        weight: float = 2.0

        def __call__(self, critic, *, real, fake):
            return critic(real).mean() * self.weight

    described = Recipe(penalties=(Pull(),)).as_dict()
    assert described["penalties"] == [{"name": "Pull", "weight": 2.0}]
    with pytest.raises(ValueError, match="penalties cannot be read from a file"):
        Recipe.from_dict(described)


def test_recipes_have_names():
    assert recipe("default") == Recipe() and "sngan" in RECIPES
    with pytest.raises(ValueError, match=r"recipe must be one of default, .*; got 'x'"):
        recipe("x")
