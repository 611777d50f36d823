"""From a named recipe to a Trainer in one line."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fastgan.data import DataSet, as_data, load
from fastgan.training import networks
from fastgan.training.recipe import presets
from fastgan.training.recipe.presets import NamedRecipe
from fastgan.training.trainer import Trainer


def build(
    recipe: str | NamedRecipe,
    data: str | torch.Tensor | np.ndarray | DataSet,
    *,
    settings: Mapping[str, Any] | None = None,
    model: str | None = None,
    conditional: bool = False,
    width: int | None = None,
    z_dim: int | None = None,
    **options: Any,
) -> Trainer:
    """The Trainer of a named recipe on a data set: `fastgan.training.build("r1", "fashion", width=16).fit(1000)`.

    recipe: a name of `fastgan recipes`, the path of a YAML file with fields of a recipe, or a NamedRecipe. settings:
    fields that replace the recipe's, {"seed": 3}. data: as for fastgan.data.load, a tensor, or a data set. model: the
    architecture, or "module:function"; by default the recipe's, "mlp" for points. conditional: with labels. width,
    z_dim: by default the architecture's. The weights are drawn from the recipe's seed. options: of Trainer, such as
    run_dir. Errors: ValueError, TypeError as fastgan.models.create and Trainer.
    """
    named = presets.recipe(recipe) if isinstance(recipe, str) else recipe
    chosen = replace(named.settings, **(settings or {}))
    samples = load(data) if isinstance(data, str) else as_data(data)
    described = networks.describe(
        samples, named, chosen, model=model, conditional=conditional, width=width, z_dim=z_dim
    )
    return Trainer(*networks.build(described, chosen), chosen, samples, **options)
