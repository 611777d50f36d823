"""Weights from a file that others made: tensors alone, nothing is executed."""

from pathlib import Path

import torch

from fastgan.extras import require


def load_weights(path: Path | str) -> dict[str, torch.Tensor]:
    """name -> tensor, from safetensors, or from a file of torch.save that holds tensors alone. Errors: ValueError."""
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return require("safetensors.torch").load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors have different errors
        raise ValueError(f"{path}: cannot be read as a file of tensors alone: {one_line(error)}") from None
    if not (isinstance(weights, dict) and all(isinstance(tensor, torch.Tensor) for tensor in weights.values())):
        raise ValueError(f"{path}: must hold a dictionary of tensors alone")
    return weights


def one_line(error: BaseException) -> str:
    return f"{' '.join(str(error).split()):.200}"
