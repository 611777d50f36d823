"""Inception-v3 with FID's weights, from a file that the user has."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Literal

import torch

from fastgan.extras import require
from fastgan.metrics.features.extractor import Extractor
from fastgan.metrics.features.weights_file import load_weights, one_line

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"


def inception(
    path: Path | str, *, resize: Literal["clean", "legacy"] = "clean", device: torch.device | str = "cpu"
) -> Extractor:
    """The Extractor of 2,048 pooled features and the unbiased logits, through torch-fidelity's network.

    path: the weights that torch-fidelity converted from TensorFlow's, or the same tensors as safetensors. Nothing is
    ever downloaded, and nothing but tensors is read: a file that holds other objects is refused.
    resize: "clean", to 299 pixels as clean-fid does, rounded to bytes, which the network takes; "legacy", by
    the network itself, as the published FIDs of TensorFlow did. The two are two extractors, and do not compare.
    Errors: FileNotFoundError with the way to get the weights, ModuleNotFoundError, ValueError.
    """
    path = Path(path)
    if resize not in ("clean", "legacy"):
        raise ValueError(f"resize must be clean or legacy, got {resize!r}")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no Inception weights lie there; fastgan downloads none: get {WEIGHTS} from torch-fidelity's"
            " release v0.2.0 (the address is URL_INCEPTION_V3 in torch_fidelity/feature_extractor_inceptionv3.py),"
            " and name the file, as in --extractor inception:PATH"
        )
    weights = load_weights(path)
    try:
        extractor = _network(weights)
    except (RuntimeError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: does not hold Inception's weights as {WEIGHTS} does: {one_line(error)}") from None
    resolution = 299 if resize == "clean" else None
    return Extractor.torch_fidelity(
        extractor, "2048", "logits_unbiased", name=f"inception-{resize}", resolution=resolution, device=device
    )


def _network(weights):
    """torch-fidelity's network with these weights. Its constructor unpickles a file: it gets none, but the tensors."""
    module = require("torch_fidelity.feature_extractor_inceptionv3", "oracles")

    class Inception(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_, **__):
            return super().load_state_dict(weights)

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        empty = Path(folder) / "empty.pth"
        torch.save({}, empty)
        return Inception("inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(empty))
