"""`fastgan recipes`"""

import argparse

from fastgan.training.recipe.presets import RECIPES


def main(arguments: list[str]) -> None:
    argparse.ArgumentParser("fastgan recipes", description="The named recipes and their papers.").parse_args(arguments)
    for name, named in RECIPES.items():
        print(f"{name:<14}{named.model:<13}{named.paper}")
