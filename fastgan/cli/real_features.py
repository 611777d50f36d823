"""Features of real images, kept from one `fastgan evaluate` to the next."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import fastgan
from fastgan.atomic_file import replacing
from fastgan.extras import require
from fastgan.metrics import Extractor, Features
from fastgan.metrics.features.fashion_cnn import cache_folder


def real_features(about: dict[str, Any], extractor: Extractor, make: Callable[[], Features]) -> Features:
    """The Features that `make()` computes, read from the user's cache folder if an earlier call kept the same.

    about: plain values that determine the images: data (see data_source.stamp), size, count, seed. The key has
    the extractor's name and hash as well, and the versions of what prepares images. A file that cannot be read is made
    again.
    """
    key = {**about, "extractor": extractor.identity, "versions": [fastgan.__version__, torch.__version__]}
    digest = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=12).hexdigest()
    path = folder() / f"{digest}.safetensors"
    try:
        tensors = require("safetensors.torch").load_file(path)
    except Exception:  # not there, or cut off: safetensors has an error of its own
        features = make()
        tensors = {"values": features.values, "logits": features.logits}
        tensors = {name: t.cpu().contiguous() for name, t in tensors.items() if t is not None}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as unfinished:
            require("safetensors.torch").save_file(tensors, unfinished, metadata={"made_of": json.dumps(key)})
        return features
    return Features(tensors["values"], tensors.get("logits"), extractor.identity)


def folder() -> Path:
    return cache_folder() / "real_features"
