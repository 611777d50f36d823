"""Training data: the embedded garments, images in folders, archives and tables, tensors, toy distributions, pairs of
images. docs/data.md has a table of what can be trained on.

A data set here is anything with

    len(data)            how many samples there are
    data.shape           of one sample, e.g. (channels, height, width)
    data.classes         the names of the classes, or None
    data.batch(indices)  int64 (B,) -> samples (B, *shape) float32, images in [-1, 1]; and their condition: labels (B,)
                         int64, source images (B, C, H, W) float32, or None

and, where it differs from the default,

    data.workers         how many processes make batches ahead (0)
    data.replacement     whether a batch is drawn with replacement (False)
    data.modes, .sigma   of a toy distribution, what mode coverage is measured against
"""

from fastgan.data.check_files import Check, check
from fastgan.data.data_set import DataSet
from fastgan.data.load import as_data, forms, load, names
from fastgan.data.order import Order
from fastgan.data.paired import low_resolution, paired, silhouettes, with_silhouette
from fastgan.data.sources.decode import Fit, ImageError
from fastgan.data.sources.digits import digits, stacked_digits
from fastgan.data.sources.fashion import fashion_mnist
from fastgan.data.sources.folder import image_folder
from fastgan.data.sources.listing import list_images
from fastgan.data.sources.tensor_data import TensorData
from fastgan.data.sources.torch_data import NoResume
from fastgan.data.sources.toys import grid, ring, swiss_roll
from fastgan.data.transforms.edges import edges
from fastgan.data.transforms.silhouette import silhouette

__all__ = [
    "Check",
    "DataSet",
    "Fit",
    "ImageError",
    "NoResume",
    "Order",
    "TensorData",
    "as_data",
    "check",
    "digits",
    "edges",
    "fashion_mnist",
    "forms",
    "grid",
    "image_folder",
    "list_images",
    "load",
    "low_resolution",
    "names",
    "paired",
    "ring",
    "silhouette",
    "silhouettes",
    "stacked_digits",
    "swiss_roll",
    "with_silhouette",
]
