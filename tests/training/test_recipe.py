import dataclasses

import pytest
import yaml

import fastgan
from fastgan import Recipe
from fastgan.training import Schedule
from fastgan.training.recipe.presets import RECIPES, recipe


@pytest.mark.parametrize(
    "field, value",
    [
        ("loss", "hingo"),
        ("penalties", [abs]),
        ("penalties", ("r1",)),
        ("generator_lr", -1e-4),
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
    [
        ("los: hinge", "has no field los; it has loss, "),
        ("seed: x", "seed must be"),
        ("7", "must hold a mapping of names to values; got int"),
        ("a:\t- b: c\n\t", "cannot be read as YAML"),
        ("x: !!python/name:os.system", "cannot be read as YAML: could not determine a constructor"),
        ("\0" * 9, "cannot be read as YAML"),
        ("schedules: [[1]]", "schedules must be a tuple of Schedules, or of their text"),
    ],
)
def test_a_wrong_file_is_refused_by_its_path(tmp_path, text, words):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"recipe.yaml(, line \\d)?: .*{words}"):
        Recipe.load(path)


@dataclasses.dataclass(frozen=True)
class Pull:
    weight: float = 2.0
    every: int = 1

    def __call__(self, critic, *, real, fake):
        return critic(real).mean() * self.weight


def test_a_penalty_is_text_in_yaml_and_an_object_in_python(tmp_path, monkeypatch):
    for table in (fastgan.penalties.PENALTIES, fastgan.penalties.GENERATOR_TERMS):
        monkeypatch.setitem(table, "Pull", Pull)
    recipe = Recipe(penalties=("Pull(weight=3.0)", "Pull"), generator_terms=("Pull(0.5)",))
    assert recipe.penalties == (Pull(3.0), Pull()) and recipe.generator_terms == (Pull(0.5),)
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe
    assert "Pull(weight=3.0, every=1)" in (tmp_path / "recipe.yaml").read_text()


@pytest.mark.parametrize(
    "text, words",
    [
        ("Push(weight=3.0)", "expected one of .*got 'Push'"),
        ("Pull(wait=3.0)", "Pull: .*got an unexpected keyword argument 'wait'"),
        ("__import__('os').system('true')", "expected NAME"),
        ("Pull(weight=1 + x)", "expected NAME"),
        ("Pull(", "expected NAME"),
    ],
)
def test_text_that_spells_no_penalty_is_refused(text, words, monkeypatch):
    monkeypatch.setitem(fastgan.penalties.PENALTIES, "Pull", Pull)
    with pytest.raises(ValueError, match=f"^penalties must be .*{words}"):
        Recipe(penalties=(text,))


def test_schedules_move_the_recipes_numbers():
    recipe = Recipe(
        generator_lr=2e-4,
        betas=(0.0, 0.9),
        penalties=(Pull(10.0),),
        schedules=(
            "Schedule('generator_lr', to=0.0, steps=100)",
            Schedule("Pull.weight", to=1.0, steps=10, begin=10, shape="cosine"),
            Schedule("betas.1", to=0.99, steps=50),
        ),
    )
    assert recipe.at(0) == recipe
    assert recipe.at(50).generator_lr == pytest.approx(1e-4) and recipe.at(1000).generator_lr == 0
    assert recipe.at(50).betas == pytest.approx((0.0, 0.99))
    weights = [recipe.at(step).penalties[0].weight for step in (0, 10, 15, 20, 30)]
    assert weights == pytest.approx([10, 10, 5.5, 1, 1])
    with pytest.raises(ValueError, match=r"^schedules: 'R3\.gamma' is not a number that may change"):
        Recipe(schedules=(Schedule("R3.gamma", to=1.0, steps=1),))


def test_the_published_code_of_wgan_trains_its_critic_in_bursts():
    recipe = Recipe(discriminator_steps=5, discriminator_burst=(100, 25, 500))
    counts = [recipe.discriminator_steps_at(step) for step in range(1001)]
    assert [step for step, n in enumerate(counts) if n == 100] == [*range(25), 500, 1000]
    assert set(counts) == {5, 100}


@pytest.mark.parametrize(
    "fields",
    [
        {"accumulate": 3},
        {"update": "simultaneous", "generator_steps": 2},
        {"unroll_steps": 1, "optimizer": "rmsprop"},
        {"augment_target": 0.6},
        {"augment_images": 0},
        {"optimizer": "lion"},
    ],
)
def test_fields_that_exclude_each_other_are_refused(fields):
    with pytest.raises(ValueError, match=f"^({'|'.join(fields)}) must be .*; got "):
        Recipe(**fields)


def test_recipes_have_names():
    assert recipe("default").settings == Recipe(spectral_norm="both") and "sngan" in RECIPES
    with pytest.raises(ValueError, match=r"recipe must be one of default, .*; got 'x'"):
        recipe("x")
