"""What turns samples into features."""

import hashlib
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from fastgan.data.transforms.grey import grey
from fastgan.metrics.features.image_tensor import to_bytes
from fastgan.metrics.features.resize import resize

BATCH = 256


class Features(NamedTuple):
    """Of a set of samples: values (N, D) float32, logits (N, classes) or None, and the extractor's name#hash."""

    values: torch.Tensor
    logits: torch.Tensor | None
    extractor: str


class Extractor:
    """A network that gives features, with the name and the hash that every number made with it carries.

    network: any module; called with a batch, it returns features (B, ...), which are flattened, or features and logits.
    name: what stands in parentheses behind the metric, e.g. "fashion-cnn".
    channels, resolution: of the images that the network takes; others are converted and resized as clean-fid does.
        None: whatever comes.
    takes: "float", images in [-1, 1]; "uint8", bytes; "samples", the samples as they come, of any shape.
    Images are rounded to bytes first, real and fake ones alike, as if they had been saved. The hash covers names,
    types, shapes and values of all weights, and how images are prepared. Errors: TypeError, ValueError,
    for samples that are neither uint8 nor in about [-1, 1], or not finite, among others.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        *,
        channels: int | None = None,
        resolution: int | None = None,
        takes: Literal["float", "uint8", "samples"] = "float",
        device: torch.device | str = "cpu",
    ) -> None:
        if not isinstance(network, nn.Module):
            raise TypeError(f"network must be a torch.nn.Module, got {type(network).__name__}")
        if takes not in ("float", "uint8", "samples"):
            raise ValueError(f"takes must be float, uint8 or samples, got {takes!r}")
        if not name or "#" in name:
            raise ValueError(f"name must be non-empty and without '#', got {name!r}")
        self.network = network.eval().requires_grad_(False).to(device)
        self.name, self.channels, self.resolution, self.takes, self.device = name, channels, resolution, takes, device
        self.hash = _hash(network, (type(network).__qualname__, channels, resolution, takes))

    @classmethod
    def samples(cls) -> "Extractor":
        """The samples themselves, flattened: for points of the plane, and for pixels."""
        return cls(nn.Flatten(), "samples", takes="samples")

    @classmethod
    def torch_fidelity(
        cls,
        extractor: Any,
        features: str | None = None,
        logits: str | None = None,
        *,
        name: str | None = None,
        resolution: int | None = None,
        device: torch.device | str = "cpu",
    ) -> "Extractor":
        """From torch-fidelity's interface: uint8 images -> a tuple in the order of its features_list.

        features, logits: names in that list; by default its first, and none.
        """
        provided = list(extractor.get_requested_features_list())
        features = features or provided[0]
        for wanted in filter(None, (features, logits)):
            if wanted not in provided:
                raise ValueError(f"features, logits must be among {', '.join(provided)}; got {wanted!r}")
        network = _Named(extractor, features, logits)
        name = name or f"{extractor.get_name()}:{features}"
        return cls(network, name, channels=3, resolution=resolution, takes="uint8", device=device)

    @property
    def identity(self) -> str:
        return f"{self.name}#{self.hash}"

    @torch.no_grad()
    def __call__(self, samples: torch.Tensor | np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
        """A batch (B, ...) -> features (B, D) float32, logits or None; on the extractor's device."""
        given = self.network(self.prepare(samples))
        features, logits = given if isinstance(given, tuple) else (given, None)
        return features.flatten(1).float(), None if logits is None else logits.float()

    def prepare(self, samples: torch.Tensor | np.ndarray) -> torch.Tensor:
        """What the network is given for these samples."""
        given = _as_tensor(samples)
        if self.takes == "samples":
            if not given.isfinite().all():
                raise ValueError("samples must be finite, got NaN or infinity")
            return given.to(self.device).float()
        images = to_bytes(given, "samples").to(self.device)
        if self.channels not in (None, images.shape[1]):
            images = _convert(images, self.channels)
        if self.resolution is not None:
            images = resize(images, self.resolution, self.resolution)
        return images / 127.5 - 1 if self.takes == "float" else images.round().to(torch.uint8)

    def features(self, batches: torch.Tensor | np.ndarray | Iterable[Any]) -> Features:
        """Features of all samples: one tensor or NumPy array (N, ...), which is cut into batches; or an iterable of
        batches, as a DataLoader is one. A batch that is a tuple or a list, as (images, labels), counts by its first
        entry.
        """
        if isinstance(batches, (torch.Tensor, np.ndarray)):
            batches = torch.as_tensor(batches).split(BATCH)
        values: list[torch.Tensor] = []
        logits: list[torch.Tensor] = []
        for batch in batches:
            first: Any = batch[0] if isinstance(batch, (tuple, list)) and len(batch) else batch
            v, p = self(first)
            values.append(v)
            logits += [] if p is None else [p]
        if not values:
            raise ValueError("batches must not be empty")
        return Features(torch.cat(values), torch.cat(logits) if logits else None, self.identity)


def _as_tensor(samples: Any) -> torch.Tensor:
    if isinstance(samples, np.ndarray):
        return torch.from_numpy(samples)
    if isinstance(samples, torch.Tensor):
        return samples
    raise TypeError(f"samples must be a tensor or a NumPy array, got {type(samples).__name__}; give the images alone")


class _Named(nn.Module):
    def __init__(self, extractor, features, logits):
        super().__init__()
        self.extractor, self.wanted = extractor, (features, logits)

    def forward(self, images):
        given = self.extractor.convert_features_tuple_to_dict(self.extractor(images))
        features, logits = self.wanted
        return given[features] if logits is None else (given[features], given[logits])

    def get_extra_state(self):  # part of what the hash covers
        return torch.tensor(list(repr(self.wanted).encode()), dtype=torch.uint8)

    def set_extra_state(self, state):
        pass


def _convert(images, channels):
    """1 -> n by repeating, 3 -> 1 by ITU-R 601, rounded."""
    if images.shape[1] == 1:
        return images.repeat(1, channels, 1, 1)
    if images.shape[1] == 3 and channels == 1:
        return grey(images.float()).round_().to(torch.uint8)
    raise ValueError(f"samples must have 1 or {channels} channels, got {images.shape[1]}")


def _hash(network, settings):
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=6)
    for key, tensor in network.state_dict().items():
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
