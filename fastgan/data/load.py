"""What `fastgan train --data` and `Trainer(data=...)` take."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fastgan.data.data_set import DataSet
from fastgan.data.paired import paired, silhouettes, with_silhouette
from fastgan.data.sources.digits import stacked_digits
from fastgan.data.sources.fashion import fashion_mnist
from fastgan.data.sources.folder import image_folder
from fastgan.data.sources.tensor_data import TensorData
from fastgan.data.sources.toys import grid, ring, swiss_roll

IMAGES: Mapping[str, Callable[..., DataSet]] = {  # of any size
    "fashion": fashion_mnist,
    "fashion_edges": lambda **size: paired(fashion_mnist(**size), "edges"),
    "fashion_low_resolution": lambda **size: paired(fashion_mnist(**size), "low_resolution"),
    "fashion_silhouettes": lambda **size: silhouettes(fashion_mnist(**size)),
    "fashion_with_silhouette": lambda **size: with_silhouette(fashion_mnist(**size)),
}
FIXED: Mapping[str, Callable[[], DataSet]] = {  # in shape
    "ring": ring,
    "ring_wgan_gp": partial(ring, "wgan_gp"),
    "ring_unrolled": partial(ring, "unrolled"),
    "ring_presgan": partial(ring, "presgan"),
    "grid": grid,
    "grid_wgan_gp": partial(grid, "wgan_gp"),
    "swiss_roll": swiss_roll,
    "digits": stacked_digits,
}


def names() -> tuple[str, ...]:
    """The names that `load` takes."""
    return (*IMAGES, *FIXED)


def load(source: str, resolution: int | None = None, channels: int | None = None, skip_broken: bool = False) -> DataSet:
    """A data set by its name (`names()`), a toy with numbers of your own, or a folder of images.

    A toy: "ring:modes=12,radius=2.0,sigma=0.02" or "grid:side=3", with the arguments of ring and grid.

    Without a size: garments have 28 pixels and 1 channel, a folder's images 64 pixels and 3 channels. A
    folder that has the name of a data set is given as a path: ./ring. skip_broken: of a folder, see image_folder.
    Errors: FileNotFoundError if `source` is neither; ValueError for a size that the data set does not have.
    """
    given = {name: value for name, value in (("resolution", resolution), ("channels", channels)) if value is not None}
    make = FIXED.get(source) or _toy(source)
    if make is not None:
        data = make()
        own = {"resolution": data.shape[-1], "channels": data.shape[0]} if len(data.shape) == 3 else {}
        if others := [name for name, value in given.items() if own.get(name) != value]:
            raise ValueError(
                f"{' and '.join(others)} cannot be chosen for {source}: its samples have the shape {tuple(data.shape)}"
            )
        return data
    if source in IMAGES:
        return IMAGES[source](**given)
    if not Path(source).exists():
        raise FileNotFoundError(
            f"{source}: there is no such folder, nor a data set of that name; data sets are {', '.join(names())}"
        )
    return image_folder(source, **given, skip_broken=skip_broken)


def _toy(source):
    """The maker of a toy with arguments, or None if the text does not begin with a toy's name and a colon."""
    name, colon, text = source.partition(":")
    toy = {"ring": ring, "grid": grid}.get(name) if colon else None
    if toy is None:
        return None
    arguments = {}
    for part in text.split(","):
        argument, equals, value = part.partition("=")
        if argument not in inspect.signature(toy).parameters or not equals:
            known = ", ".join(inspect.signature(toy).parameters)
            raise ValueError(f"{source}: must be {name}:argument=value, with commas; the arguments are {known}")
        arguments[argument] = _number(value)
    return partial(toy, **arguments)


def _number(text):
    """An int, a float, or the text itself, which is a preset."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def as_data(data: torch.Tensor | np.ndarray | DataSet) -> DataSet:
    """A data set as this package defines it; a bare tensor or NumPy array becomes one."""
    if isinstance(data, (torch.Tensor, np.ndarray)):
        return TensorData(data)
    if not all(hasattr(data, name) for name in ("batch", "shape", "classes", "__len__")):
        raise TypeError(
            "data must be a tensor or NumPy array, or have len(), .shape, .classes and .batch(indices) as fastgan.data"
            f" says; got {type(data).__name__}"
        )
    return data
