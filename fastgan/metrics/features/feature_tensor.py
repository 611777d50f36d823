"""What every metric on features requires of its input."""

import torch


def check_features(features: torch.Tensor, name: str, at_least: int = 2) -> torch.Tensor:
    """features as (N, D) floating point, finite, N >= at_least; else ValueError, TypeError that name the argument."""
    if not isinstance(features, torch.Tensor) or not features.is_floating_point():
        got = getattr(features, "dtype", type(features).__name__)
        raise TypeError(f"{name} must be a floating-point tensor (N, D), got {got}")
    if features.ndim != 2 or features.shape[1] == 0:
        raise ValueError(f"{name} must have shape (N, D), got {tuple(features.shape)}")
    if len(features) < at_least:
        raise ValueError(f"{name} must hold at least {at_least} samples for this metric, got {len(features)}")
    if not torch.stack(features.detach().aminmax()).isfinite().all():  # one pass; NaN goes through
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return features.detach() if features.dtype in (torch.float32, torch.float64) else features.detach().float()


def check_pair(real: torch.Tensor, fake: torch.Tensor, at_least: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Both sets, of one width and on one device."""
    real, fake = check_features(real, "real", at_least), check_features(fake, "fake", at_least)
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"real and fake must have equally many features, got {real.shape[1]} and {fake.shape[1]}")
    dtype = torch.promote_types(real.dtype, fake.dtype)
    return real.to(dtype), fake.to(real.device, dtype)
