"""The shape of what stands before a plain background."""

import torch
from torch.nn.functional import pad

from fastgan.data.transforms.grey import grey


def silhouette(images: torch.Tensor, threshold: float = 0.06) -> torch.Tensor:
    """images (B, 1 or 3, H, W) in [-1, 1] -> (B, 1, H, W), 1 on the object, -1 around it.

    Background is what differs by at most `threshold` from the border's median brightness and is connected with the
    border; dark prints and the inside of a closed outline belong to the object.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be above 0, got {threshold}")
    x = grey(images)
    border = torch.cat([x[:, :, 0], x[:, :, -1], x[..., 0], x[..., -1]], dim=2)  # (B, 1, 2H + 2W)
    plain = (x - border.median(dim=2).values[..., None, None]).abs() <= threshold
    return torch.where(_connected_with_border(plain), -1.0, 1.0)


def _connected_with_border(plain):
    """Flood fill, from all sides at once, through the four neighbours of a pixel."""
    reached = pad(torch.zeros_like(plain), (1, 1, 1, 1), value=True)  # a frame around the picture
    inside = pad(plain, (1, 1, 1, 1), value=True)
    while True:
        grown = reached.clone()
        grown[:, :, 1:] |= reached[:, :, :-1]
        grown[:, :, :-1] |= reached[:, :, 1:]
        grown[..., 1:] |= reached[..., :-1]
        grown[..., :-1] |= reached[..., 1:]
        grown &= inside
        if torch.equal(grown, reached):
            return reached[:, :, 1:-1, 1:-1]
        reached = grown
