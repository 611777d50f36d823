"""A generator as two files: model.safetensors and config.json. Nothing in them is executed when they are read."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fastgan
from fastgan import models, own_code
from fastgan.atomic_file import replacing
from fastgan.extras import require
from fastgan.nn import to_torch

FORMAT = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"


def save(
    generator: nn.Module, folder: str | Path, model: dict[str, Any], stage: tuple[int, float] | None = None
) -> None:
    """Write the generator to folder/model.safetensors and folder/config.json.

    The weights are those of `fastgan.nn.to_torch`: spectral norm is folded in, "weight" is W / sigma.
    model: the arguments of fastgan.models.create, as generator.created_as holds them. stage: level and alpha of a
    growing generator.
    """
    folder = Path(folder)
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in to_torch(generator).state_dict().items()
        if isinstance(tensor, torch.Tensor)
    }
    config = {
        "format": FORMAT,
        "fastgan": fastgan.__version__,
        "model": model,
        "stage": stage,
        "z_dim": generator.z_dim,
        "classes": getattr(generator, "classes", None),
    }
    with replacing(folder / WEIGHTS) as unfinished:
        unfinished.write_bytes(require("safetensors.torch").save(tensors))
    with replacing(folder / CONFIG) as unfinished:
        unfinished.write_text(json.dumps(config, indent=2))


def load(path: str | Path, model: str | None = None) -> nn.Module:
    """The generator of a folder that `fastgan export` wrote, in evaluation mode, on the CPU.

    generator(z) or generator(z, labels): z (B, generator.z_dim) float32 -> (B, *shape), images in [-1, 1].
    path: the folder. model: of a generator of your own, its "module:function"; a file alone does not make code run.
    The generator runs on torch's operations; to draw many samples: fastgan.models.sampling.sample(generator, z).
    Errors: FileNotFoundError, ValueError with the path of what is missing or damaged.
    """
    folder = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name}: is missing; `fastgan export RUN` writes such a folder")
    described, stage = _read_config(folder / CONFIG)
    if described["name"] not in models.names():
        own_code.refuse_unless_named(described["name"], model, folder / CONFIG, "model=")
    generator: Any = to_torch(models.create(**described).generator)
    try:
        tensors = require("safetensors.torch").load((folder / WEIGHTS).read_bytes())
        generator.load_state_dict(tensors)
    except (require("safetensors").SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{folder / WEIGHTS}: is damaged, or not of this {described['name']}: {reason:.300}") from None
    if stage is not None:
        generator.set_stage(*stage)
    return generator


def _read_config(file):
    """-> the arguments of models.create, the stage"""
    try:
        config = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: is damaged: {error!s:.100}") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{file}: must be a mapping with format {FORMAT}, as `fastgan export` writes it; export again")
    described = config.get("model")
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        raise ValueError(f"{file}: is damaged: model must be a mapping with a name; got {described!r:.100}")
    return described, config.get("stage")
