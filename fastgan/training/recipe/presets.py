"""Recipes by name: the settings of a paper, and the pair of networks that they were made for."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from fastgan.training.recipe.recipe import Recipe
from fastgan.training.recipe.yaml_file import read_mapping


@dataclass(frozen=True)
class NamedRecipe:
    """paper: where the settings come from, and in what they differ. model, options: for fastgan.models.create.

    vectors: options of the "mlp" that replaces the model on data of vectors.
    data: what to train on when nothing else is named. conditional: whether both networks are given the labels.
    base: of a recipe from a file, the named recipe that the file starts from.
    """

    paper: str
    settings: Recipe
    model: str = "dcgan"
    options: dict = field(default_factory=dict)
    vectors: dict = field(default_factory=dict)
    data: str = "fashion"
    conditional: bool = False
    base: str | None = None


DCGAN = Recipe(
    loss="non_saturating", generator_lr=2e-4, discriminator_lr=2e-4, betas=(0.5, 0.999), spectral_norm="none"
)
WGAN_GP = Recipe(
    loss="wasserstein",
    penalties=("WGANGP(weight=10.0)",),
    generator_lr=1e-4,
    discriminator_lr=1e-4,
    betas=(0.0, 0.9),
    discriminator_steps=5,
    spectral_norm="none",
)
SNGAN = Recipe(generator_lr=2e-4, discriminator_lr=2e-4, betas=(0.0, 0.9), discriminator_steps=5)
NO_NORM = {"norm": "none"}

RECIPES = {
    "default": NamedRecipe("hinge loss, unequal rates, spectral norm in both networks", Recipe(spectral_norm="both")),
    "garments": NamedRecipe(
        "the default for a narrow DCGAN on the embedded garments: minutes on two cores",
        Recipe(generator_lr=2e-3, discriminator_lr=3e-3, batch_size=32, spectral_norm="both"),
    ),
    "dcgan": NamedRecipe("Radford et al., 2016", replace(DCGAN, batch_size=128)),
    "minimax": NamedRecipe("Goodfellow et al., 2014, with DCGAN's optimiser", replace(DCGAN, loss="minimax")),
    "lsgan": NamedRecipe(
        "Mao et al., 2017, coefficients (0, 1, 1)",
        replace(DCGAN, loss="least_squares", generator_lr=1e-3, discriminator_lr=1e-3),
    ),
    "wgan": NamedRecipe(
        "Arjovsky et al., 2017, Algorithm 1",
        Recipe(
            loss="wasserstein",
            penalties=("WeightClip(0.01)",),
            optimizer="rmsprop",
            generator_lr=5e-5,
            discriminator_lr=5e-5,
            discriminator_steps=5,
            spectral_norm="none",
        ),
    ),
    "wgan-code": NamedRecipe(
        "Arjovsky et al., 2017, as published: clips before the step, and trains the critic in bursts",
        Recipe(
            loss="wasserstein",
            penalties=("WeightClip(0.01, when='before')",),
            optimizer="rmsprop",
            generator_lr=5e-5,
            discriminator_lr=5e-5,
            discriminator_steps=5,
            discriminator_burst=(100, 25, 500),
            spectral_norm="none",
        ),
    ),
    "wgan-gp": NamedRecipe("Gulrajani et al., 2017, Algorithm 1", WGAN_GP, "wgan_gp"),
    "wgan-gp-toy": NamedRecipe(
        "Gulrajani et al., 2017, the published code on points of the plane",
        replace(WGAN_GP, penalties=("WGANGP(weight=0.1)",), betas=(0.5, 0.9), batch_size=256),
        "wgan_gp",
        data="ring_wgan_gp",
    ),
    "wgan-gp-ttur": NamedRecipe(
        "Heusel et al., 2017, WGAN-GP with unequal rates",
        replace(WGAN_GP, discriminator_lr=3e-4, discriminator_steps=1),
        "wgan_gp",
    ),
    "dragan": NamedRecipe(
        "Kodali et al., 2017, the published code's noise",
        replace(
            DCGAN,
            penalties=("DRAGAN(weight=10.0, variant='code')",),
            generator_lr=1e-4,
            discriminator_lr=1e-4,
            betas=(0.5, 0.9),
        ),
        options=NO_NORM,
    ),
    "r1": NamedRecipe(
        "Mescheder et al., 2018, non-saturating with R1",
        replace(DCGAN, penalties=("R1(gamma=10.0)",), generator_lr=1e-4, discriminator_lr=1e-4, betas=(0.0, 0.99)),
        options=NO_NORM,
    ),
    "sngan": NamedRecipe(
        "Miyato et al., 2018, CIFAR-10; the rates fall to zero over 50,000 steps",
        replace(
            SNGAN,
            schedules=(
                "Schedule('generator_lr', to=0.0, steps=50000)",
                "Schedule('discriminator_lr', to=0.0, steps=50000)",
            ),
        ),
        "sngan",
    ),
    "projection": NamedRecipe(
        "Miyato and Koyama, 2018: conditional batch norm, a critic that projects on the class",
        SNGAN,
        "sngan",
        conditional=True,
    ),
    "acgan": NamedRecipe(
        "Odena et al., 2017: a critic that classifies, too",
        replace(DCGAN, penalties=("AuxiliaryClassifier()",), generator_terms=("AuxiliaryClassifier()",)),
        options={"head": "auxiliary"},
        conditional=True,
    ),
    "sagan": NamedRecipe("Zhang et al., 2019", Recipe(generator_lr=1e-4, discriminator_lr=4e-4), "sagan"),
    "biggan": NamedRecipe(
        "Brock et al., 2019, without its batch of 2048",
        Recipe(
            generator_lr=5e-5,
            discriminator_lr=2e-4,
            betas=(0.0, 0.999),
            discriminator_steps=2,
            ema_decay=0.9999,
            generator_terms=("OrthogonalRegularization(weight=0.0001)",),
        ),
        "biggan",
    ),
    "rsgan": NamedRecipe("Jolicoeur-Martineau, 2019, RSGAN", replace(DCGAN, loss="relativistic", batch_size=32)),
    "rasgan": NamedRecipe(
        "Jolicoeur-Martineau, 2019, RaSGAN", replace(DCGAN, loss="relativistic_average", batch_size=32)
    ),
    "rals": NamedRecipe(
        "Jolicoeur-Martineau, 2019, RaLSGAN", replace(DCGAN, loss="relativistic_average_least_squares", batch_size=32)
    ),
    "rahinge": NamedRecipe(
        "Jolicoeur-Martineau, 2019, RaHingeGAN", replace(DCGAN, loss="relativistic_average_hinge", batch_size=32)
    ),
    "r3gan": NamedRecipe(
        "Huang et al., 2024: RpGAN + R1 + R2, no normalisation, cosine schedules (CIFAR-10's gamma)",
        Recipe(
            loss="relativistic_paired",
            penalties=("R1(gamma=0.05)", "R2(gamma=0.05)"),
            generator_lr=2e-4,
            discriminator_lr=2e-4,
            betas=(0.0, 0.9),
            spectral_norm="none",
            schedules=(
                "Schedule('R1.gamma', to=0.005, steps=10000, shape='cosine')",
                "Schedule('R2.gamma', to=0.005, steps=10000, shape='cosine')",
                "Schedule('generator_lr', to=5e-05, steps=10000, shape='cosine')",
                "Schedule('discriminator_lr', to=5e-05, steps=10000, shape='cosine')",
                "Schedule('betas.1', to=0.99, steps=10000, shape='cosine')",
            ),
        ),
        "r3gan",
    ),
    "pacgan2": NamedRecipe(
        "Lin et al., 2018: packs of two, both players at once",
        replace(
            DCGAN,
            pack=2,
            generator_lr=1e-4,
            discriminator_lr=1e-4,
            betas=(0.8, 0.999),
            batch_size=100,
            update="simultaneous",
        ),
        vectors={"preset": "pacgan"},
    ),
    "pacgan1": NamedRecipe(
        "Lin et al., 2018: the baseline of packing",
        replace(
            DCGAN, generator_lr=1e-4, discriminator_lr=1e-4, betas=(0.8, 0.999), batch_size=100, update="simultaneous"
        ),
        vectors={"preset": "pacgan"},
    ),
    "unrolled": NamedRecipe(
        "Metz et al., 2017, the published notebook",
        Recipe(
            loss="minimax",
            unroll_steps=5,
            update="simultaneous",
            generator_lr=1e-3,
            discriminator_lr=1e-4,
            betas=(0.5, 0.999),
            batch_size=512,
            spectral_norm="none",
        ),
        options=NO_NORM,
        vectors={"preset": "unrolled"},
        data="ring",
    ),
    "lecam": NamedRecipe(
        "Tseng et al., 2021, on SAGAN's rates", Recipe(penalties=("LeCam(weight=0.1)",), spectral_norm="discriminator")
    ),
    "bcr": NamedRecipe(
        "Zhao et al., 2020, balanced consistency regularisation",
        Recipe(penalties=("Consistency(real_weight=10.0, fake_weight=10.0)",), spectral_norm="discriminator"),
    ),
    "diffaugment": NamedRecipe(
        "Zhao et al., 2020, on the hinge loss",
        Recipe(augment="color,translation,cutout", spectral_norm="discriminator"),
    ),
    "ada": NamedRecipe(
        "Karras et al., 2020, adaptive augmentation",
        replace(
            DCGAN,
            penalties=("R1(gamma=1.0, every=16)",),
            augment="color,translation,cutout",
            augment_target=0.6,
            betas=(0.0, 0.99),
        ),
        options=NO_NORM,
    ),
    "progan": NamedRecipe(
        "Karras et al., 2018: WGAN-GP with drift, growing, equalised learning rates",
        Recipe(
            loss="wasserstein",
            penalties=("WGANGP(weight=10.0, allow_coupled=True)", "CriticDrift(weight=0.001)"),
            generator_lr=1e-3,
            discriminator_lr=1e-3,
            betas=(0.0, 0.99),
            batch_size=16,
            progressive="ProgressiveSchedule(phase_images=600000)",
            spectral_norm="none",
        ),
        "progressive",
    ),
    "pix2pix": NamedRecipe(
        "Isola et al., 2017: edges to garments",
        replace(DCGAN, generator_terms=("L1(weight=100.0)",), batch_size=1),
        "pix2pix",
        data="fashion_edges",
    ),
    "two-stage": NamedRecipe(
        "Zhu et al., 2017 (FashionGAN) and Zhang et al., 2017 (StackGAN): shape first, then the garment on it",
        replace(DCGAN, batch_size=64),
        "two_stage",
        data="fashion_with_silhouette",
    ),
}


def names() -> tuple[str, ...]:
    return tuple(RECIPES)


def recipe(name: str) -> NamedRecipe:
    """The NamedRecipe of this name, or of a file .yaml that holds fields of a Recipe, and in `recipe` the name of the
    recipe that it starts from ("default" without it). Errors: ValueError, with the names that there are."""
    if Path(name).suffix in (".yaml", ".yml"):
        return _of_file(name)
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}, or a file .yaml; got {name!r}")
    return RECIPES[name]


def _of_file(path):
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such file; a recipe is a name of `fastgan recipes`, or a file .yaml")
    values = read_mapping(path)
    base = values.pop("recipe", "default")
    if base not in RECIPES:
        raise ValueError(f"{path}: recipe must be one of {', '.join(RECIPES)}; got {base!r}")
    try:
        settings = Recipe.from_dict(RECIPES[base].settings.as_dict() | values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return replace(RECIPES[base], settings=settings, base=base)
