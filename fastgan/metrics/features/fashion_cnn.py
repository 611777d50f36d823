"""A small classifier of garments, trained here on the embedded images: an extractor that needs no download."""

import json
import os
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fastgan import randomness
from fastgan.atomic_file import replacing
from fastgan.data import fashion_mnist
from fastgan.extras import require
from fastgan.metrics.features.extractor import Extractor
from fastgan.metrics.features.weights_file import load_weights

NAME, RECIPE, FEATURES, EPOCHS, BATCH, LR = "fashion-cnn", 1, 128, 8, 100, 2e-3
HELD_OUT = 10  # every tenth image of the file measures the accuracy and is not trained on


class FashionCNN(nn.Module):
    """(B, 1, 28, 28) in [-1, 1] -> features (B, 128) after the ReLU, logits (B, 10)"""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, FEATURES),
            nn.ReLU(),
        )
        self.logits = nn.Linear(FEATURES, 10)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.features(images)
        return features, self.logits(features)


def cache_folder() -> Path:
    """Where fastgan keeps what it can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastgan"


def default_path() -> Path:
    """In the user's cache folder; another recipe or torch trains other weights."""
    return cache_folder() / f"{NAME}-{RECIPE}-torch-{torch.__version__}.safetensors"


def fashion_cnn(path: Path | str | None = None, *, device: torch.device | str = "cpu") -> Extractor:
    """The Extractor "fashion-cnn", with logits. Read from `path`, by default in the user's cache folder. If the file
    is missing, the network is trained first (in well under a minute on one core) and saved there.

    Training is deterministic on one machine with one torch; another instruction set rounds differently and gives
    another hash. Errors: ValueError for a file that holds something else.
    """
    path = default_path() if path is None else Path(path)
    network = FashionCNN()
    if not path.exists():
        accuracy = train(network)
        about = {"fastgan": json.dumps({"recipe": RECIPE, "held_out_accuracy": accuracy})}
        with replacing(path) as unfinished:
            require("safetensors.torch").save_file(network.state_dict(), unfinished, metadata=about)
    try:
        network.load_state_dict(load_weights(path))
    except (RuntimeError, ValueError):
        raise ValueError(f"{path}: is not a {NAME}; remove the file, and the network is trained again") from None
    return Extractor(network, NAME, channels=1, resolution=28, device=device)


def train(network: nn.Module, epochs: int = EPOCHS) -> float:
    """Adam with a one-cycle rate and mirrored images, on one thread, for a fixed order of sums. -> held-out accuracy"""
    data = fashion_mnist()
    every = torch.arange(len(data))
    kept, held_out = every[every % HELD_OUT != 0], every[every % HELD_OUT == 0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with randomness.global_seed(0, NAME):
            for module in network.modules():
                reset = getattr(module, "reset_parameters", None)
                if callable(reset):
                    reset()
            optimizer = torch.optim.Adam(network.parameters(), LR)
            steps = epochs * (len(kept) // BATCH)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
            for epoch in range(epochs):
                randomness.reseed(0, NAME, epoch)
                for indices in kept[torch.randperm(len(kept))].split(BATCH):
                    images, labels = data.batch(indices)
                    mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
                    images = torch.where(mirrored, images.flip(3), images)
                    optimizer.zero_grad(set_to_none=True)
                    assert labels is not None  # of the garments
                    cross_entropy(network(images)[1], labels).backward()
                    optimizer.step()
                    schedule.step()
        with torch.no_grad():
            images, labels = data.batch(held_out)
            return (network(images)[1].argmax(1) == labels).double().mean().item()
    finally:
        torch.set_num_threads(threads)
