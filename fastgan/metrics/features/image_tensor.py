"""What every metric on images requires of its input, and images as the bytes that would be saved."""

import numpy as np
import torch

FAR = 2.0  # beyond what a generator without a tanh may overshoot


def check_images(images: torch.Tensor | np.ndarray, name: str) -> torch.Tensor:
    """images as a tensor (B, C, H, W): uint8, or floating point in about [-1, 1]; NumPy arrays become tensors.

    Errors: TypeError, ValueError that name the argument, for other types and shapes, values beyond 2, NaN and infinity.
    """
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(images)
    if not isinstance(images, torch.Tensor):
        raise TypeError(f"{name} must be a tensor of images (B, C, H, W), got {type(images).__name__}")
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"{name} must be images (B, C, H, W) without a zero, got shape {tuple(images.shape)}")
    if images.shape[3] in (1, 3) and images.shape[1] > 4:
        raise ValueError(
            f"{name} must have its channels second, (B, C, H, W), got shape {tuple(images.shape)}:"
            " try images.permute(0, 3, 1, 2)"
        )
    check_range(images, name)
    return images


def check_range(images: torch.Tensor, name: str) -> None:
    """TypeError, ValueError for what is neither uint8 nor floating point in about [-1, 1]."""
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise TypeError(
            f"{name} must be uint8 images in 0..255 or floating-point ones in [-1, 1], got {images.dtype}:"
            " try images.to(torch.uint8) if the values are 0..255"
        )
    low, high = (value.item() for value in images.detach().aminmax())  # NaN goes through
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    if max(-low, high) > FAR:
        raise ValueError(
            f"{name} must lie in [-1, 1], got {low:.4g}..{high:.4g}: "
            + ("try images / 127.5 - 1 if the values are 0..255" if low >= 0 else "try images.clamp(-1, 1)")
        )


def check_extent(images: torch.Tensor, name: str, data_range: float) -> None:
    """(B, C, H, W) of any type and offset, finite, with values in a range of at most twice data_range."""
    if not isinstance(images, torch.Tensor) or images.ndim != 4 or 0 in images.shape:
        got = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
        raise ValueError(f"{name} must be a tensor of images (B, C, H, W) without a zero, got {got}")
    low, high = (value.double().item() for value in images.detach().aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    if high - low > 2 * data_range:
        raise ValueError(f"{name} must fit data_range ({data_range:g}), got values in {low:.4g}..{high:.4g}")


def to_bytes(images: torch.Tensor | np.ndarray, name: str = "images") -> torch.Tensor:
    """Checked images as they would be saved: uint8, rounded. uint8 stays as it is."""
    images = check_images(images, name)
    if images.dtype == torch.uint8:
        return images
    return (images.float() * 127.5 + 127.5).round_().clamp_(0, 255).to(torch.uint8)
