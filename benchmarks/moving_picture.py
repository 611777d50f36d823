"""README's moving picture: a walk through the latents of a run of `make train`.

    python -m benchmarks.moving_picture RUN [--out docs/pictures/walk.gif]

Each cell of the picture walks on a circle through two random latents, so that the last frame meets the first. The
images are those of `fastgan sample`: the averaged generator of the newest checkpoint.
"""

import argparse
import math

import numpy
import torch
from PIL import Image

from fastgan import training
from fastgan.models import sampling

FRAMES, ROWS, COLUMNS, SCALE = 32, 3, 8, 2


def walk(generator, seed=0):
    """(FRAMES, ROWS * COLUMNS, z_dim): latents of unit variance at each step."""
    starts, ends = sampling.latents(generator, 2 * ROWS * COLUMNS, seed, "walk").chunk(2)
    angles = torch.arange(FRAMES) * (2 * math.pi / FRAMES)
    return angles.cos()[:, None, None] * starts + angles.sin()[:, None, None] * ends


def frame(images):
    """(ROWS * COLUMNS, 1, H, W) in [-1, 1] -> a picture."""
    bytes_of = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
    cells = bytes_of.unflatten(0, (ROWS, COLUMNS)).squeeze(2)  # (rows, columns, H, W)
    grid = cells.permute(0, 2, 1, 3).flatten(0, 1).flatten(1)
    picture = Image.fromarray(numpy.asarray(grid))
    return picture.resize((picture.width * SCALE, picture.height * SCALE), Image.Resampling.BILINEAR).quantize(16)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--out", default="docs/pictures/walk.gif")
    flags = parser.parse_args()
    generator = training.load_generator(flags.run).generator
    first, *others = [frame(sampling.sample(generator, z)) for z in walk(generator)]
    first.save(flags.out, save_all=True, append_images=others, duration=80, loop=0, optimize=True)


if __name__ == "__main__":
    main()
