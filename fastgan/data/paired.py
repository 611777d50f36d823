"""Data sets for image-to-image networks and for training in two stages, made from any data set of images.

The pictures are computed with each batch, in a process beside the run, so that a folder too large for memory works as
well.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, interpolate

from fastgan.data.data_set import DataSet
from fastgan.data.transforms.edges import edges
from fastgan.data.transforms.silhouette import silhouette


def low_resolution(images: torch.Tensor, factor: int = 4, enlarge: bool = True) -> torch.Tensor:
    """Means of factor x factor pixels (B, C, H/factor, W/factor); enlarged: bicubic, back to (B, C, H, W)."""
    height, width = images.shape[2:]
    if factor < 2 or height % factor or width % factor:
        raise ValueError(f"factor must be at least 2 and divide the image's sides, got {factor} for {height}x{width}")
    small = avg_pool2d(images, factor)
    return interpolate(small, size=(height, width), mode="bicubic").clamp(-1, 1) if enlarge else small


SOURCES: Mapping[str, Callable[..., torch.Tensor]] = {
    "edges": edges,
    "low_resolution": low_resolution,
    "silhouette": silhouette,
}


def paired(data: DataSet, source: str | Callable[..., torch.Tensor] = "edges", **options: Any) -> DataSet:
    """The images with a source image each, as the condition of `.batch`: the task is to get from source to image.

    source: "edges", "low_resolution" or "silhouette", with the options of the function of that name in fastgan.data;
    or a function images (B, C, H, W) -> (B, C', H', W') in [-1, 1] of your own. The images' labels are left out.
    """
    if callable(source):
        make = source
    elif source in SOURCES:
        make = SOURCES[source]
    else:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}, or a function; got {source!r}")
    return Paired(data, lambda images: make(images, **options))


def silhouettes(data: DataSet, **options: Any) -> DataSet:
    """The shapes alone, (1, H, W), with the images' labels: what a first stage learns to draw."""
    return Mapped(data, lambda images: silhouette(images, **options))


def with_silhouette(data: DataSet, **options: Any) -> DataSet:
    """Shape and image on top of each other, (1 + C, H, W), with the images' labels: both stages' target."""
    return Mapped(data, lambda images: torch.cat([silhouette(images, **options), images], dim=1))


class _View:
    """`replacement` is the data's own, and `workers` too, but for one at least that makes pictures ahead."""

    def __init__(self, data: DataSet) -> None:
        if len(data.shape) != 3 or data.shape[0] not in (1, 3):
            raise ValueError(f"data must be images of shape (1 or 3, H, W), got {tuple(data.shape)}")
        self.data = data
        on_gpu = data.batch(torch.tensor([0]))[0].is_cuda  # which a process beside this one cannot use
        self.workers = 0 if on_gpu else max(1, getattr(data, "workers", 0))
        self.replacement = getattr(data, "replacement", False)

    def __len__(self) -> int:
        return len(self.data)


class Paired(_View):
    """.batch -> (images, sources); condition_shape: of one source."""

    classes: Sequence[str] | None = None

    def __init__(self, data: DataSet, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(data)
        self.make, self.shape = make, data.shape
        self.condition_shape = tuple(self.batch(torch.tensor([0]))[1].shape[1:])

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images, _ = self.data.batch(indices)
        return images, self.make(images)


class Mapped(_View):
    """.batch -> (make(images), labels or None)"""

    def __init__(self, data: DataSet, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__(data)
        self.make, self.classes = make, data.classes
        self.shape = tuple(self.batch(torch.tensor([0]))[0].shape[1:])

    def batch(self, indices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        images, labels = self.data.batch(indices)
        return self.make(images), labels
