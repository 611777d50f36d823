"""What a run would see of a data set, and what is wrong with the files."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fastgan.data.load import files_of, load
from fastgan.data.sources.decode import ImageError, looked_at
from fastgan.data.sources.encoded import THREADS, Files

SHOWN = 5  # names of each problem that are listed
HUGE = 4096  # pixels of a side: slow to decode in every epoch
ASPECT = 2  # long side to short side, from where a crop of the middle loses half of the image


@dataclass
class Check:
    """What `check` found.

    count: samples that can be read. shape, classes: of the data set; classes with their number of samples.
    sizes, modes: of encoded images, each with the number of images: {"640x480": 12}, {"RGB": 12}.
    skipped: files left out, by reason. problems: {what: [names]}.
    """

    count: int
    shape: tuple[int, ...] = ()
    classes: Mapping[str, int] | None = None
    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    skipped: Mapping[str, int] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"samples:  {self.count:,}" + (f", {'x'.join(map(str, self.shape))}" if self.shape else "")]
        for name, counts in (("sizes", self.sizes), ("modes", self.modes), ("classes", Counter(self.classes or {}))):
            if counts:
                most = ", ".join(f"{key} ({count:,})" for key, count in counts.most_common(8))
                lines.append(f"{name + ':':<10}{most}" + (f", and {len(counts) - 8} more" if len(counts) > 8 else ""))
        lines += [f"left out: {count:,} {reason}" for reason, count in sorted(self.skipped.items())]
        for what, found in self.problems.items():
            more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            lines.append(f"problem:  {len(found):,} {what}: {', '.join(found[:SHOWN])}{more}")
        return "\n".join(lines if self.problems else [*lines, "problem:  none found"])


def check(source: str | Path, resolution: int = 64, links: bool = False) -> Check:
    """Read every file of a data set once, and say what is there.

    source: as `load` takes it. Of encoded images: broken ones, ones smaller than `resolution`, ones with a side of more
    than 4,096 pixels, ones of which a crop of the middle keeps less than half, and ones with the bytes of an earlier
    one are problems. Errors: as `load`.
    """
    files = files_of(source, links)
    if files is None:
        data = load(source)
        labels = data.batch(torch.arange(len(data)))[1] if data.classes else None
        return Check(len(data), tuple(data.shape), _counted(data.classes, labels))
    return _check_files(files, resolution)


def _check_files(files: Files, resolution: int) -> Check:
    found = Check(0, skipped=files.skipped)
    first: dict[bytes, str] = {}
    kept = []
    with ThreadPoolExecutor(THREADS) as pool:
        looks = pool.map(lambda index: _look(files, index), range(len(files.names)))
        for index, (name, look) in enumerate(zip(files.names, looks, strict=True)):
            if isinstance(look, str):
                _add(found, "broken", look)
                continue
            (width, height), mode, digest = look
            found.count += 1
            found.sizes[f"{width}x{height}"] += 1
            found.modes[mode] += 1
            kept.append(index)
            if min(width, height) < resolution:
                _add(found, f"smaller than {resolution} pixels", name)
            if max(width, height) > HUGE:
                _add(found, f"larger than {HUGE} pixels", name)
            if max(width, height) > ASPECT * min(width, height):
                _add(found, "of which a crop of the middle keeps less than half", name)
            if digest in first:
                _add(found, "with the bytes of another", f"{name} = {first[digest]}")
            first.setdefault(digest, name)
    if files.labels is not None:
        found.classes = _counted(files.classes, torch.tensor([files.labels[index] for index in kept]))
    return found


def _look(files: Files, index: int) -> Any:
    """Size, mode and hash of an image that is decoded whole; or why it cannot be."""
    content = files.read(index)
    try:
        content = content if isinstance(content, bytes) else content.read_bytes()
        opened = files.open(index)
        size, mode = looked_at(opened, files.names[index], lambda image: (image.load(), (image.size, image.mode))[1])
    except (ImageError, OSError) as error:
        return str(error)
    return size, mode, hashlib.blake2b(content, digest_size=16).digest()


def _add(found, what, name):
    found.problems.setdefault(what, []).append(name)


def _counted(classes, labels):
    """{class: samples}, or None."""
    if classes is None or labels is None:
        return None
    return {name: int(number) for name, number in zip(classes, labels.bincount(minlength=len(classes)), strict=False)}
