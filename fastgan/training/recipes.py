"""Recipes by name."""

from fastgan.training.recipe import Recipe

RECIPES = {
    # SAGAN's unequal rates (Zhang et al., 2019) with the hinge loss: made for spectral norm in both networks.
    "default": Recipe(),
    # For a narrow DCGAN on the embedded garments: the largest rates that stay stable, for minutes on two cores.
    "garments": Recipe(generator_lr=2e-3, discriminator_lr=3e-3, batch_size=32),
    # Radford et al., 2016.
    "dcgan": Recipe(
        loss="non_saturating", generator_lr=2e-4, discriminator_lr=2e-4, betas=(0.5, 0.999), batch_size=128
    ),
    # Miyato et al., 2018, CIFAR-10 with residual networks; theirs also lets the rates fall to zero over 50,000 steps.
    "sngan": Recipe(generator_lr=2e-4, discriminator_lr=2e-4, betas=(0.0, 0.9), discriminator_steps=5),
}


def recipe(name):
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(RECIPES)}; got {name!r}")
    return RECIPES[name]
