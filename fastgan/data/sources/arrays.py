"""Files of NumPy and torch that hold samples, and labels if there are any."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastgan.data.sources.tensor_data import TensorData

SUFFIXES = (".npy", ".npz", ".pt", ".pth")
SAMPLES = ("images", "samples", "data", "x", "X", "arr_0")
LABELS = ("labels", "label", "y", "targets", "arr_1")


def array_file(path: Path | str) -> TensorData:
    """The samples of a .npy, .npz, .pt or .pth file, as TensorData takes them; nothing in the file is executed.

    .npy holds one array. .npz, or a dict in a torch file, holds samples under one of SAMPLES, or as its only entry, and
    labels under one of LABELS. A torch file may also hold a tensor or a pair of samples and labels. Images (N, H, W, C)
    become (N, C, H, W), with a warning, and bytes (N, H, W) become (N, 1, H, W).
    Errors: ValueError for a file that is damaged, holds Python objects, or names no samples.
    """
    try:
        found = _read(Path(path))
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile's, pickle's, NumPy's and torch's own
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path}: cannot be read as arrays or tensors without running code: {reason:.200}") from None
    samples, labels = _parts(path, found)
    return TensorData(_channels_first(path, samples), labels)


def _read(path):
    if path.suffix in (".pt", ".pth"):
        return torch.load(path, map_location="cpu", weights_only=True)
    found = np.load(path, allow_pickle=False)
    if isinstance(found, np.ndarray):
        return found
    with found:
        return {name: found[name] for name in found.files}


def _parts(path: Any, found: Any) -> tuple[Any, Any]:
    if isinstance(found, (torch.Tensor, np.ndarray)):
        return found, None
    if isinstance(found, (tuple, list)) and len(found) == 2:
        return found[0], found[1]
    if isinstance(found, Mapping):
        name = next((n for n in SAMPLES if n in found), next(iter(found)) if len(found) == 1 else None)
        if name is not None:
            return found[name], next((found[n] for n in LABELS if n in found), None)
        found = f"the entries {', '.join(map(str, found))}"
    else:
        found = type(found).__name__
    raise ValueError(
        f"{path}: holds {found}; name samples one of {', '.join(SAMPLES)}, labels one of {', '.join(LABELS)}"
    )


def _channels_first(path, samples):
    shape = tuple(getattr(samples, "shape", ()))
    if len(shape) == 3 and str(samples.dtype).endswith("uint8"):
        return samples[:, None]
    if len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] > 4:
        warnings.warn(f"{path}: samples of shape {shape} have their channels last, and are taken so", stacklevel=3)
        return torch.as_tensor(samples).permute(0, 3, 1, 2)
    return samples
