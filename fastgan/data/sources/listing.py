"""Which files of a folder are its images, and how many were left out and why."""

import os
import stat
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

READ = {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp"}
NOT_READ = {".gif", ".avif", ".jfif", ".heic", ".heif", ".jxl", ".jp2", ".svg", ".tga", ".psd", ".eps", ".raw", ".dng"}
OUTSIDE = "links out of the folder (links=True, --links follows them)"
LEFT_BEHIND = "__MACOSX"  # by archives of macOS


def list_images(
    folder: Path | str, links: bool = False
) -> tuple[list[str], list[int] | None, list[str] | None, Counter[str]]:
    """-> paths, labels (or None), classes' names (or None), skipped; sorted, so that an index means the same
    everywhere.

    Sub-folders are classes, searched to any depth; without any, the images lie in the folder itself. Names with a
    leading dot and __MACOSX are left out everywhere. Links that lead out of the folder are followed if `links` allows
    it. Each folder is visited once, and a link to a folder inside is not followed: what it points to is found at its
    own place.
    skipped: Counter {reason: number} of what was left out and has the name of an image, or is a folder that a link
    repeats.
    Errors: FileNotFoundError, NotADirectoryError; ValueError without images, with a class without images, or with
    images both beside and in sub-folders.
    """
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder}: is a file, not a folder of images")
    walk = _Walk(folder, links)
    flat, below = walk.images_and_folders(folder)
    classes = [path.name for path in below]
    samples = [(path, label) for label, below in enumerate(below) for path in walk.images(below)]
    if flat and samples:
        raise ValueError(f"{folder}: has images both in itself and in sub-folders; keep one of the two")
    if not flat and not samples:
        raise ValueError(f"{folder}: has no images (looked for {', '.join(sorted(READ))}){because(walk.skipped)}")
    if flat:
        return [str(path) for path in flat], None, None, walk.skipped
    labels = [label for _, label in samples]
    check_classes(folder, classes, labels)
    return [str(path) for path, _ in samples], labels, classes, walk.skipped


def check_classes(folder: Path | str, classes: Sequence[str], labels: Iterable[int]) -> None:
    """ValueError for the first class that no label names."""
    for empty in sorted(set(range(len(classes))).difference(labels)):
        raise ValueError(f"{Path(folder) / classes[empty]}: has no images, but is taken for a class; remove it")


def warn_of_skipped(folder: Path | str, skipped: Mapping[str, int]) -> None:
    """One line, if anything was left out."""
    if skipped:
        warnings.warn(f"{folder}: {sum(skipped.values())} left out{because(skipped)}", stacklevel=3)


def because(skipped: Mapping[str, int]) -> str:
    """Why files were left out, as the end of a sentence."""
    return f": {', '.join(f'{count} {reason}' for reason, count in sorted(skipped.items()))}" if skipped else ""


class _Walk:
    def __init__(self, root, links):
        self.root, self.links, self.skipped = root.resolve(), links, Counter()
        self.visited = {_identity(os.stat(root))}

    def images(self, folder):
        images, below = self.images_and_folders(folder)
        return images + [path for deeper in below for path in self.images(deeper)]

    def images_and_folders(self, folder):
        """Sorted paths of both, right in this folder. A folder counts as visited from now on."""
        images, folders, links = [], [], []
        for path in sorted(folder.iterdir()):
            hidden = _hidden(path.name)
            try:
                kind = path.stat()
            except OSError as error:  # a link to nothing, a circle of links, no permission
                if path.suffix.lower() in READ and not hidden:
                    self.skipped[f"that cannot be opened ({error.strerror})"] += 1
                continue
            if stat.S_ISDIR(kind.st_mode):
                if not hidden:
                    (links if path.is_symlink() else folders).append(path)
                continue
            reason = _reason(path.suffix.lower(), hidden, stat.S_ISREG(kind.st_mode))
            if reason is None and path.is_symlink() and not self._may_follow(path):
                reason = OUTSIDE
            if reason is None:
                images.append(path)
            elif reason:
                self.skipped[reason] += 1
        new = [path for path in folders if self._is_new(path)] + [path for path in links if self._leads_out(path)]
        return images, sorted(new)

    def _is_new(self, folder):
        identity = _identity(os.stat(folder))
        if identity in self.visited:
            return False
        self.visited.add(identity)
        return True

    def _may_follow(self, link):
        return self.links or link.resolve().is_relative_to(self.root)

    def _leads_out(self, link):
        """Whether a link to a folder leads to images that lie neither in the root nor in a folder that was visited."""
        if not self._may_follow(link):
            self.skipped[OUTSIDE] += 1
            return False
        target = link.resolve()
        above = self.root.is_relative_to(target)
        inside = target.is_relative_to(self.root) and not any(map(_hidden, target.relative_to(self.root).parts))
        if above or inside or not self._is_new(link):
            self.skipped["linked folders that are visited at another place"] += 1
            return False
        return True


def _reason(suffix, hidden, regular):
    """None for an image that is read; "" for a file that is not an image; else why an image is left out."""
    if suffix not in READ | NOT_READ:
        return ""
    if hidden:
        return "with a hidden name"
    if suffix in NOT_READ:
        return f"{suffix} (not a format that is read)"
    return None if regular else "that are not plain files (pipes, sockets, devices)"


def _hidden(name):
    return name.startswith(".") or name == LEFT_BEHIND


def _identity(status):
    return status.st_dev, status.st_ino
