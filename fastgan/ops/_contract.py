"""The argument contract of every op: dtypes, what sums accumulate in, the sentence when an argument is wrong."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def accumulate_dtype(tensor: torch.Tensor) -> torch.dtype:
    """The dtype of sums, statistics and logsumexp beside a tensor: float32, float64 for float64."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def accumulate_like(tensor: torch.Tensor, parameter: torch.Tensor | None) -> torch.Tensor | None:
    """A parameter beside the tensor as ops take it, in accumulate_dtype.

    A half-precision parameter's gradient is rounded once, by this cast. Any other dtype is left for the op to refuse.
    """
    if parameter is None or tensor.dtype in (torch.float32, torch.float64) or parameter.dtype != tensor.dtype:
        return parameter
    return parameter.float()


def check_tensor(name: str, value: Any, *, optional: bool = False) -> None:
    if not (isinstance(value, torch.Tensor) or (optional and value is None)):
        raise TypeError(f"{name} must be a tensor{' or None' if optional else ''}, got {type(value).__name__}")


def check_activation(name: str, value: Any) -> None:
    """A tensor in one of the dtypes that ops compute in."""
    check_tensor(name, value)
    if value.dtype not in DTYPES:
        raise TypeError(f"{name} must be float64, float32, bfloat16 or float16, got {value.dtype}")


def check_parameter(name: str, value: Any, x: torch.Tensor, *shapes: tuple[int, ...]) -> None:
    """A tensor beside x, or None: in the dtype of x or the one that sums accumulate in, of one of the shapes."""
    check_tensor(name, value, optional=True)
    if value is None:
        return
    dtypes = dict.fromkeys((x.dtype, accumulate_dtype(x)))  # in order, each once
    if value.dtype not in dtypes or value.device != x.device:
        raise TypeError(
            f"{name} must be {' or '.join(map(str, dtypes))} on {x.device} to suit x, got {value.dtype} on"
            f" {value.device}"
        )
    if tuple(value.shape) not in shapes:
        raise ValueError(f"{name} must have shape {' or '.join(map(str, shapes))}, got {tuple(value.shape)}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")


def check_at_least_zero(name: str, value: Any) -> None:
    if not value >= 0:  # NaN is not
        raise ValueError(f"{name} must be at least 0, got {value}")


# --- shapes, for torch.compile and opcheck


def empty_output(
    want: bool, like: torch.Tensor, shape: Sequence[int] | None = None, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """An output of a derivative; an output that is not wanted has no elements."""
    return like.new_empty((like.shape if shape is None else shape) if want else (0,), dtype=dtype or like.dtype)
