"""fastgan: custom kernels for training GANs. Every op differentiates twice, at kernel speed and kernel memory."""

from fastgan import nn, ops

__version__ = "0.1.0"
__all__ = ["nn", "ops"]
