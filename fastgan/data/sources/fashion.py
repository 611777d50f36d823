"""Fashion-MNIST's test file: 1,000 garments of each of ten kinds (Xiao et al., 2017; MIT licence, beside it)."""

import gzip
from importlib.resources import files

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from fastgan.data.sources.tensor_data import TensorData

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def fashion_mnist(resolution: int = 28, channels: int = 1) -> TensorData:
    """The embedded garments as TensorData.

    28 pixels are the images as they are; 32 adds two black pixels on each side; any other size resamples the 28 pixels
    (bilinear, antialiased). channels=3 repeats the grey value.
    """
    if resolution < 4:
        raise ValueError(f"resolution must be at least 4, got {resolution}")
    if channels not in (1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels}")
    images = _read_idx("t10k-images-idx3-ubyte.gz").unsqueeze(1)  # (10000, 1, 28, 28)
    if resolution == 32:
        images = pad(images, (2, 2, 2, 2))
    elif resolution != 28:
        resized = interpolate(images.float(), size=(resolution, resolution), mode="bilinear", antialias=True)
        images = resized.round_().clamp_(0, 255).to(torch.uint8)
    return TensorData(images.repeat(1, channels, 1, 1), _read_idx("t10k-labels-idx1-ubyte.gz"), CLASSES)


def _read_idx(name):
    """An IDX file of bytes: two zeros, the type 8, the number of dimensions, each of them in 4 bytes, the values."""
    data = gzip.decompress(files("fastgan.data.sources").joinpath("fashion_mnist").joinpath(name).read_bytes())
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape).copy())
