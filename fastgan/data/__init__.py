"""Training data: the embedded garments, image folders, tensors.

A data set here is anything with

    len(data)            how many samples there are
    data.shape           of one sample, e.g. (channels, height, width)
    data.classes         the names of the classes, or None
    data.batch(indices)  int64 (B,) -> samples (B, *shape) float32, images in [-1, 1]; labels (B,) int64, or None
"""

from fastgan.data.fashion import fashion_mnist
from fastgan.data.folder import ImageError, image_folder
from fastgan.data.load import as_data, load
from fastgan.data.order import Order
from fastgan.data.tensor_data import TensorData

__all__ = ["ImageError", "Order", "TensorData", "as_data", "fashion_mnist", "image_folder", "load"]
