"""One image file to pixels."""

from pathlib import Path

import numpy as np
import torch

from fastgan.extras import require

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")  # a name proves nothing: EPS would start another program


class ImageError(ValueError):
    """An image that cannot be used; the message names its path."""


def decode(path: Path | str, resolution: int, channels: int) -> torch.Tensor:
    """The image as uint8 (channels, resolution, resolution).

    Turned upright by its EXIF tag; alpha is dropped, grey and colour are converted to the other as `channels` says; the
    shorter side is resampled to `resolution` (bilinear, antialiased) and the middle of the longer one kept.
    Errors: ImageError, with the path, for a file that is truncated, not an image of FORMATS, of an unknown depth, or so
    large that it may be a decompression bomb (PIL's limit).
    """
    Image, ImageOps = require("PIL.Image"), require("PIL.ImageOps")
    try:
        with Image.open(path, formats=FORMATS) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):  # PIL would cut 16 bits off at 255, not scale them
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise ValueError(f"mode {image.mode} is not one of 8 or 16 bits")
            image = image.convert("L" if channels == 1 else "RGB")
            if image.size != (resolution, resolution):
                image = ImageOps.fit(image, (resolution, resolution), Image.Resampling.BILINEAR)
            pixels = torch.from_numpy(np.array(image))  # (resolution, resolution) or (resolution, resolution, 3)
    except Exception as error:  # PIL raises its own, OSError, SyntaxError, struct.error, ... for a broken file
        raise ImageError(f"{path}: cannot be read as an image: {error}") from error
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1)
