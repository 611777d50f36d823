"""The pictures of a run."""

import shutil
from typing import Any

import torch

from fastgan.atomic_file import replacing
from fastgan.data import DataSet
from fastgan.figures import save_attention_maps, save_curves, save_grid, save_scatter
from fastgan.models import sampling
from fastgan.nn.attention_maps import attention_layers, attention_maps
from fastgan.nn.pack import pack
from fastgan.training.callbacks.callback import Callback

PICTURES, POINTS = 100, 2000
ATTENDING = 6  # images with attention maps, the first ones of those
QUERIES = ((0.5, 0.5), (0.25, 0.5), (0.75, 0.25))  # rows and columns, as shares of the image


class Pictures(Callback):
    """Images or points of the averaged generator every so many steps, curves of the log, attention maps."""

    def __init__(self, every: int, data: DataSet) -> None:
        self.every = every
        self.images = len(data.shape) == 3 and data.shape[0] <= 4
        self.points = tuple(data.shape) == (2,)

    def on_start(self, trainer: Any) -> None:
        if self.images:
            real = trainer.data.batch(torch.arange(min(PICTURES, len(trainer.data))))[0]
            save_grid(_side_by_side(real), trainer.folder.real)

    def on_step(self, trainer: Any, row: dict[str, Any]) -> None:
        if (self.images or self.points) and trainer.is_due(self.every):
            self.draw(trainer)

    def draw(self, trainer: Any) -> None:
        state, device, folder = trainer.state, trainer.device, trainer.folder
        count = POINTS if self.points else PICTURES
        z = sampling.latents(state.average, count, trainer.recipe.seed, "pictures", device=device)
        condition = sampling.conditions(state.average, trainer.data, count, device)
        samples = sampling.sample(state.average, z, condition)
        path = folder.samples_at(state.step)
        if self.points:
            save_scatter({"generated": samples}, path, modes=getattr(trainer.data, "modes", None))
        else:
            sources = condition if sampling.takes_source(state.average) else None
            save_grid(_side_by_side(samples, sources), path)
            self._draw_attention(trainer, z[:ATTENDING], samples[:ATTENDING])
        _copy(path, folder.samples)
        save_curves(trainer.rows, folder.curves)
        trainer.wrote(path)

    def _draw_attention(self, trainer, z, images):
        """What both networks look at in the first samples (a pack: copies of one); nothing where neither attends."""
        state, folder = trainer.state, trainer.folder
        labels, copies = sampling.labels_in_turn(state.average, len(images), images.device), trainer.recipe.pack
        judged = [None if t is None else pack(t.repeat_interleave(copies, 0), copies) for t in (images, labels)]
        networks = {"generator": (state.average, z, labels), "critic": (state.discriminator, *judged)}
        size, maps = images.shape[2:], {}
        queries = [(int(y * size[0]), int(x * size[1])) for y, x in QUERIES]
        for title, (network, *inputs) in networks.items():
            if not attention_layers(network):
                continue
            found = attention_maps(network, queries, size, *(t for t in inputs if t is not None))
            for name, weights in found.items():
                maps[title if len(found) == 1 else f"{title} {name}"] = weights
        if maps:
            path = folder.attention_maps_at(state.step)
            save_attention_maps(images, queries, maps, path)
            _copy(path, folder.attention_maps)
            trainer.wrote(path)


def _side_by_side(images, sources=None):
    """One picture of each sample: a silhouette beside its image, a source beside what was made of it."""
    if sources is None and images.shape[1] in (2, 4):
        sources, images = images[:, :1], images[:, 1:]
    if sources is None:
        return images
    sources = torch.nn.functional.interpolate(sources, images.shape[2:])
    return torch.cat([sources.expand_as(images), images], 3)


def _copy(source, target):
    with replacing(target) as unfinished:
        shutil.copyfile(source, unfinished)
