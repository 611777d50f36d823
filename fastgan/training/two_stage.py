"""Two stages, one after the other: a shape first, then the image on it (FashionGAN and StackGAN, both 2017)."""

from pathlib import Path
from typing import Any

from fastgan import models, randomness
from fastgan.data import silhouettes, with_silhouette
from fastgan.training.recipe.recipe import Recipe
from fastgan.training.trainer import Trainer


class TwoStage:
    """Stage I learns to draw silhouettes; stage II learns to paint the image on a silhouette of stage I.

    Both are plain Trainers, in run_dir/stage_one and run_dir/stage_two. Stage II's critic judges shape and image
    together, so that an image which ignores its shape is found out. A mode lost by stage I is lost to stage II, too.

    data: images (1 or 3 channels). recipe: of both stages; first_recipe: of stage I, where it differs.
    joint: stage I goes on training in stage II; else it is frozen, in evaluation mode, with its averaged weights.
    width, z_dim: of each stage's networks. classes: whether both are class-conditional. options: of Trainer.
    """

    def __init__(
        self,
        data: Any,
        recipe: Recipe,
        *,
        run_dir: str | Path,
        first_recipe: Recipe | None = None,
        joint: bool = False,
        width: int = 64,
        z_dim: int = 100,
        classes: bool = False,
        **options: Any,
    ) -> None:
        self.data, self.recipe, self.first_recipe = data, recipe, first_recipe or recipe
        self.joint, self.options, self.folder = joint, options, Path(run_dir)
        self.size = {"resolution": data.shape[1], "width": width, "z_dim": z_dim, "pack": recipe.pack}
        self.size["classes"] = len(data.classes) if classes else None

    def fit(self, first_steps: int, second_steps: int) -> Trainer:
        """Train stage I for first_steps in all, then stage II for second_steps; goes on where it was stopped.

        Returns the Trainer of stage II; its generator draws shape and image, stacked on channels.
        """
        one = self._trainer("stage_one", "dcgan", self.first_recipe, silhouettes(self.data), channels=1)
        if one.state.step < first_steps:
            one.fit(first_steps)
        shapes = {"stage_one": one.state.average.requires_grad_(self.joint), "train_stage_one": self.joint}
        channels = 1 + self.data.shape[0]
        two = self._trainer(
            "stage_two", "two_stage", self.recipe, with_silhouette(self.data), channels=channels, **shapes
        )
        if two.state.step < second_steps:
            two.fit(second_steps)
        return two

    def _trainer(self, name, model, recipe, data, **made_of):
        with randomness.global_seed(recipe.seed, f"initial weights of {name}"):
            pair = models.create(model, **self.size, **made_of)
        folder = self.folder / name
        return Trainer(*pair, recipe, data, run_dir=folder, resume="auto", **self.options)
