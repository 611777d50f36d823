"""What `fastgan train --data` and `Trainer(data=...)` take."""

import torch

from fastgan.data.fashion import fashion_mnist
from fastgan.data.folder import image_folder
from fastgan.data.tensor_data import TensorData


def load(source, resolution=None, channels=None):
    """ "fashion" (28 pixels, 1 channel where nothing is asked for) or a folder of images (64 pixels, 3 channels)."""
    asked = {name: value for name, value in (("resolution", resolution), ("channels", channels)) if value is not None}
    return fashion_mnist(**asked) if source == "fashion" else image_folder(source, **asked)


def as_data(data):
    """A data set as this package defines it; a bare tensor becomes one."""
    if isinstance(data, torch.Tensor):
        return TensorData(data)
    if not all(hasattr(data, name) for name in ("batch", "shape", "classes", "__len__")):
        raise TypeError(
            f"data must be a tensor or have len(), .shape, .classes and .batch(indices) as fastgan.data says;"
            f" got {type(data).__name__}"
        )
    return data
