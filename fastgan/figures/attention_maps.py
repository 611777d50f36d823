"""What attention looks at: a red dot in an image, and beside it the map of that position over the image."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from fastgan.atomic_file import replacing
from fastgan.extras import require

INCHES = 1.1  # the side of one picture


def save_attention_maps(
    images: torch.Tensor, queries: Sequence[tuple[int, int]], maps: Mapping[str, torch.Tensor], path: Path | str
) -> None:
    """A PNG with a row for each image; for each query the image with the dot, and then each layer's map over it.

    images (N, 1 or 3, H, W) in [-1, 1]; queries: positions (row, column) in pixels of these; maps: title ->
    (queries, N, h, w), weights of any scale, each enlarged to the image's size and as bright as its own largest.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
        raise ValueError(f"images must have shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
    count, _, height, width = images.shape
    for title, weights in maps.items():
        if weights.ndim != 4 or weights.shape[:2] != (len(queries), count):
            raise ValueError(
                f"maps[{title!r}] must have shape ({len(queries)}, {count}, h, w), got {tuple(weights.shape)}"
            )
    shown = images.detach().cpu().float().clamp(-1, 1).add(1).div(2).permute(0, 2, 3, 1)  # (N, H, W, C)
    gray = shown.mean(3)  # (N, H, W): under a map the colours are the map's
    columns = len(queries) * (1 + len(maps))
    figure = require("matplotlib.figure").Figure(figsize=(INCHES * columns, INCHES * count + 0.3), layout="constrained")
    axes = figure.subplots(count, columns, squeeze=False)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)  # pixel centres are whole numbers
    for index, row in enumerate(axes):
        cells = iter(row)
        for number, (y, x) in enumerate(queries):
            cell = next(cells)
            cell.imshow(shown[index].numpy(), cmap="gray", vmin=0, vmax=1, extent=extent)
            cell.plot(x, y, "o", color="red", markersize=4)
            for title, weights in maps.items():
                cell = next(cells)
                cell.imshow(gray[index].numpy(), cmap="gray", vmin=0, vmax=1, extent=extent)
                cell.imshow(
                    weights[number, index].detach().cpu().float().numpy(),
                    cmap="inferno",
                    vmin=0,
                    alpha=0.7,
                    interpolation="bilinear",
                    extent=extent,
                )
                if index == 0:
                    cell.set_title(title, fontsize=7)
    for cell in axes.flat:
        cell.set_axis_off()
        cell.set(xlim=extent[:2], ylim=extent[2:])
    with replacing(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=110)
