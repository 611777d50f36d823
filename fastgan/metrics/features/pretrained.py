"""torchvision's classifiers of ImageNet as extractors, from weights that are on the disk."""

from pathlib import Path

import torch
from torch import nn

from fastgan.extras import require
from fastgan.metrics.features.extractor import Extractor
from fastgan.metrics.features.weights_file import load_weights, one_line

NORMALISES_ITSELF = ("googlenet", "inception_v3")  # their published weights expect [-1, 1]-like input, made inside


def pretrained(name: str, path: Path | str | None = None, *, device: torch.device | str = "cpu") -> Extractor:
    """The Extractor torchvision:`name`: input of the classifier's last linear layer as features, its output as logits.

    name: of a classifier in torchvision.models, as "resnet50". path: its weights; by default the file that torchvision
    itself keeps in torch's cache. Nothing is ever downloaded here. Images are resized to the weights' own size.
    Errors: FileNotFoundError, with the way to get the weights; ValueError for another name or other weights.
    """
    models = require("torchvision.models")
    if name not in models.list_models(module=models):
        raise ValueError(
            f"torchvision has no classifier {name!r}; it has {', '.join(models.list_models(module=models))}"
        )
    published = models.get_model_weights(name).DEFAULT
    if path is None:
        path = str(Path(torch.hub.get_dir()) / "checkpoints" / published.url.rpartition("/")[2])
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: no weights of {name} lie there; fastgan downloads none: run python -c"
            f" \"import torchvision; torchvision.models.get_model('{name}', weights='DEFAULT')\", or put the file there"
        )
    weights = load_weights(path)
    network = models.get_model(name, weights=None, **({"transform_input": True} if name in NORMALISES_ITSELF else {}))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path}: does not hold the weights of {name}: {one_line(error)}") from None
    preset = published.transforms()
    size = preset.crop_size[0]
    return Extractor(_Classifier(network, preset.mean, preset.std), name, channels=3, resolution=size, device=device)


class _Classifier(nn.Module):
    """(B, 3, H, W) in [-1, 1] -> features, logits"""

    def __init__(self, network, mean, std):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]

    def forward(self, images):
        seen = []
        hook = self.last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self.network(((images + 1) / 2 - self.mean) / self.std)
        finally:
            hook.remove()
        return seen[-1], logits
