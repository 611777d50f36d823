"""One image file to pixels."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import torch

from fastgan.extras import require

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")  # a name proves nothing: EPS would start another program
Resize = Literal["bicubic", "lanczos", "bilinear", "box"]
Crop = Literal["center", "stretch", "none"]
Alpha = Literal["drop", "white", "black", "keep"]


class ImageError(ValueError):
    """An image that cannot be used; the message names its path."""


@dataclass(frozen=True)
class Fit:
    """How an image becomes (channels, resolution, resolution).

    resize: PIL's filter of that name, which averages over all pixels when it makes an image smaller; clean-fid
        (Parmar et al., 2022) prescribes bicubic.
    crop: "center" brings the shorter side to `resolution` and keeps the middle of the longer one; "stretch" brings both
        sides to `resolution`; "none" takes images of this size alone.
    alpha: what becomes of transparency. "drop" keeps the colour behind it, "white" and "black" lay the image on that
        colour, "keep" puts alpha before the colours as a channel of its own, so that `channels` is 2 or 4.
    channels: 1 (grey) or 3 (colour), or one more for alpha.
    """

    resolution: int = 64
    channels: int = 3
    resize: Resize = "bicubic"
    crop: Crop = "center"
    alpha: Alpha = "drop"

    def __post_init__(self) -> None:
        for name, known in (("resize", Resize), ("crop", Crop), ("alpha", Alpha)):
            if (value := getattr(self, name)) not in get_args(known):
                raise ValueError(f"{name} must be one of {', '.join(get_args(known))}; got {value!r}")
        if self.resolution < 4:
            raise ValueError(f"resolution must be at least 4, got {self.resolution}")
        allowed = (2, 4) if self.alpha == "keep" else (1, 3)
        if self.channels not in allowed:
            raise ValueError(
                f"channels must be {allowed[0]} or {allowed[1]} with alpha={self.alpha!r}, got {self.channels}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        return self.channels, self.resolution, self.resolution

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def decode(file: Path | str | BinaryIO, name: str, fit: Fit) -> torch.Tensor:
    """The image as uint8 (channels, resolution, resolution), upright by its EXIF tag.

    Errors: ImageError, with the name, for a file that is truncated, not an image of FORMATS, of an unknown depth, or so
    large that it may be a decompression bomb (PIL's limit).
    """
    return looked_at(file, name, lambda image: _fitted(image, fit))


def looked_at(file: Path | str | BinaryIO, name: str, look: Callable[[Any], Any]) -> Any:
    """What `look` returns for PIL's image of the file. Errors: ImageError, as `decode`."""
    try:
        with require("PIL.Image").open(file, formats=FORMATS) as image:
            return look(image)
    except Exception as error:  # PIL raises its own, OSError, SyntaxError, struct.error, ... for a broken file
        raise ImageError(f"{name}: cannot be read as an image: {error}") from error


def _fitted(image, fit):
    Image, ImageOps = require("PIL.Image"), require("PIL.ImageOps")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # PIL would cut 16 bits off at 255, not scale them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} is not one of 8 or 16 bits")
    image = _colours(image, fit)
    size = (fit.resolution, fit.resolution)
    if image.size != size:
        if fit.crop == "none":
            raise ValueError(f"its size is {image.width}x{image.height}, and crop='none' takes {size[0]}x{size[1]}")
        by = Image.Resampling[fit.resize.upper()]
        image = ImageOps.fit(image, size, by) if fit.crop == "center" else image.resize(size, by)
    pixels = torch.from_numpy(np.array(image)).view(*size, fit.channels).permute(2, 0, 1)
    return pixels.roll(1, 0) if fit.alpha == "keep" else pixels  # PIL has alpha last


def _colours(image, fit):
    """In the mode that `fit` wants."""
    Image, grey = require("PIL.Image"), fit.channels < 3
    if fit.alpha == "keep":
        return image.convert("RGBA").convert("LA") if grey else image.convert("RGBA")
    if fit.alpha != "drop" and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, fit.alpha), image)
    return image.convert("L" if grey else "RGB")
