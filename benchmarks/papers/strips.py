"""Rows of grey pictures beside a plot. A results file holds a row of pictures as one PNG, in base64."""

import base64
import io

import torch
from PIL import Image


def strip(images):
    """Images (N, 1, H, W) in [-1, 1] -> [one PNG of all, side by side], a list since the texts of a row are printed."""
    pixels = torch.cat(list(images.clamp(-1, 1).mul(127.5).add(127.5).round().byte()[:, 0]), 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "png", optimize=True)
    return [base64.b64encode(buffer.getvalue()).decode()]


def draw_strips(figure, strips):
    """Draw name -> row of pictures, one below the other. Returns the axis beside the rows."""
    figure.set_size_inches(9, 6)
    grid = figure.add_gridspec(len(strips), 2, width_ratios=(2, 3))
    for i, (name, (picture,)) in enumerate(strips.items()):
        axis = figure.add_subplot(grid[i, 0])
        axis.imshow(Image.open(io.BytesIO(base64.b64decode(picture))), cmap="gray", vmin=0, vmax=255)
        axis.set_title(name, fontsize=8)
        axis.set_axis_off()
    return figure.add_subplot(grid[:, 1])
