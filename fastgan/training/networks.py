"""The pair of networks of a recipe on a data set."""

from typing import Any

from fastgan import models, randomness
from fastgan.data import DataSet
from fastgan.models.pair import Pair
from fastgan.models.parts.layers import SPECTRAL_NORM
from fastgan.training.add_spectral_norm import add_spectral_norm
from fastgan.training.recipe.presets import NamedRecipe
from fastgan.training.recipe.recipe import Recipe


def describe(
    data: DataSet,
    named: NamedRecipe,
    recipe: Recipe,
    *,
    model: str | None = None,
    conditional: bool = False,
    width: int | None = None,
    z_dim: int | None = None,
) -> dict[str, Any]:
    """The arguments of models.create, as plain values that a file can hold.

    named: a NamedRecipe, for its model and options when `model` is None. Data of vectors then get an "mlp".
    conditional: with labels; some recipes are conditional by themselves. Errors: ValueError for data without labels.
    """
    images = len(data.shape) == 3
    name = model or (named.model if images else "mlp")
    own = model in (None, named.model)
    options = {} if not own else named.options if images else named.vectors
    conditional = conditional or named.conditional
    if conditional and data.classes is None:
        raise ValueError(
            "a conditional recipe needs labels, and the data have none: use another recipe, or data with classes"
        )
    size = {"channels": data.shape[0], "resolution": data.shape[1]} if images else {"features": data.shape[0]}
    chosen = {
        "classes": len(data.classes or ()) if conditional else None,
        "width": width,
        "z_dim": z_dim,
        "spectral_norm": recipe.spectral_norm if recipe.spectral_norm in SPECTRAL_NORM else None,
        "pack": recipe.pack if recipe.pack > 1 else None,
        "source_channels": getattr(data, "condition_shape", (None,))[0],
    }
    known = models.options(name)
    if name not in models.names():  # a function of the user's own takes the size if it has the parameter
        size = {k: v for k, v in size.items() if k in known}
    # create refuses an option that an architecture lacks; Trainer adds its spectral norm
    chosen = {k: v for k, v in chosen.items() if k in known or k in ("classes", "width", "z_dim", "pack")}
    return {"name": name, **size, **{k: v for k, v in chosen.items() if v is not None}, **options}


def build(model: dict[str, Any], recipe: Recipe) -> Pair:
    """The Pair of these arguments, its weights drawn from the recipe's seed, as Trainer has it."""
    with randomness.global_seed(recipe.seed, "initial weights"):
        return add_spectral_norm(models.create(**model), recipe)
