"""Images inside archives: zip files as StyleGAN's tools write them, tar files as WebDataset has them.

An archive is read at random places and nothing of it is unpacked to the disk.
"""

import json
import os
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fastgan.data.sources.encoded import Files
from fastgan.data.sources.listing import READ

LABELS = "dataset.json"  # of StyleGAN's tools: {"labels": [["00000/img00000000.png", 6], ...]}
LARGEST = 2**28  # bytes of one member; what unpacks to more is a bomb
LARGEST_TEXT = 2**28
OUTSIDE = "with a path out of the archive"
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def zip_files(path: Path | str) -> Files:
    """The images of a zip file; classes are the labels of its dataset.json, or else its folders.

    Encrypted members, members with an absolute path or .., and members of more than 256 MiB are left out and counted.
    Errors: ValueError for a file that is not a zip, or labels that do not cover the images.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: cannot be read as a zip file: {error}") from None
    skipped: Counter[str] = Counter()
    members = {}
    for info in archive.infolist():
        name = info.filename
        if info.is_dir() or PurePosixPath(name).suffix.lower() not in READ or _hidden(name):
            continue
        if reason := _reason(name, info.file_size) or ("that are encrypted" if info.flag_bits & 1 else ""):
            skipped[reason] += 1
        else:
            members[name] = info
    names = sorted(members)
    opened: dict[int, zipfile.ZipFile] = {os.getpid(): archive}

    def read(index):
        if os.getpid() not in opened:  # a loader's process must not share the place in the file
            opened[os.getpid()] = zipfile.ZipFile(path)
        return opened[os.getpid()].read(names[index])

    labels, classes = _labels_of_json(path, _json_of(archive, path), names) or _folders(names)
    whole = [f"{path}/{name}" for name in names]
    return Files(path, whole, read, _stamp([Path(path)]), labels, classes, skipped)


def tar_files(source: Path | str) -> Files:
    """The images of WebDataset's shards: a .tar file, a folder of .tar files, or a pattern, as shard-{000..009}.tar.

    Members of one name are a sample; name.cls holds a class as a number or word, name.json may have a "label". Without
    both, folders are classes, or the images have no labels. Members that are links, or that have an absolute path, ..
    or more than 256 MiB, are left out and counted.
    Errors: FileNotFoundError; ValueError for compressed or broken archives, or if only some images have a label.
    """
    shards = shards_of(source)
    skipped: Counter[str] = Counter()
    members: list[tuple[Path, tarfile.TarInfo]] = []
    texts: dict[str, str] = {}
    for shard in shards:
        try:
            with tarfile.open(shard, "r:") as archive:
                for info in archive:
                    _keep(archive, shard, info, members, texts, skipped)
        except tarfile.TarError as error:
            raise ValueError(f"{shard}: cannot be read as a plain tar file: {error}; unpack compressed ones") from None

    def read(index):
        shard, info = members[index]
        with open(shard, "rb") as file:
            file.seek(info.offset_data)
            return file.read(info.size)

    labels: list[int] | None
    classes: list[str] | None
    found = [texts.get(f"{shard}/{_key(info.name)}") for shard, info in members]
    names = [f"{shard}/{info.name}" for shard, info in members]
    if any(text is not None for text in found):
        labels, classes = _classes(source, dict(zip(names, found, strict=True)))
    else:
        labels, classes = _folders([info.name for _, info in members])
    return Files(source, names, read, _stamp(shards), labels, classes, skipped)


def shards_of(source: Path | str) -> list[Path]:
    """The .tar files that a text means, sorted. Errors: FileNotFoundError."""
    path, braces = Path(source), BRACES.search(str(source))
    if braces:
        first, last = braces[1], braces[2]
        numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        shards = [Path(str(source).replace(braces[0], number, 1)) for number in numbers]
    else:
        shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    for shard in shards:
        if not shard.is_file():
            raise FileNotFoundError(f"{shard}: there is no such file")
    return shards


def _keep(archive, shard, info, members, texts, skipped):
    suffix = PurePosixPath(info.name).suffix.lower()
    if suffix not in READ | {".cls", ".json"} or _hidden(info.name):
        return
    reason = _reason(info.name, info.size) or ("" if info.isreg() else "that are links or devices")
    if reason:
        skipped[reason] += 1
    elif suffix in READ:
        members.append((shard, info))
    elif (text := _label(archive.extractfile(info).read(), suffix)) is not None:
        texts[f"{shard}/{_key(info.name)}"] = text


def _label(content, suffix):
    """The text of a label, or None."""
    text = content.decode(errors="replace").strip()
    if suffix == ".cls":
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return None
    label = found.get("label", found.get("cls")) if isinstance(found, dict) else None
    return str(label) if isinstance(label, (int, str)) else None


def _json_of(archive, path):
    """What dataset.json says, or {}."""
    if LABELS not in archive.namelist():
        return {}
    if archive.getinfo(LABELS).file_size > LARGEST_TEXT:
        raise ValueError(f"{path}: {LABELS} is larger than {LARGEST_TEXT} bytes")
    try:
        found = json.loads(archive.read(LABELS))
    except ValueError as error:
        raise ValueError(f"{path}: {LABELS} is not JSON: {error}") from None
    return found if isinstance(found, dict) else {}


def _labels_of_json(path, found, names):
    """Labels and classes in the order of names; None without labels."""
    if not found.get("labels"):
        return None
    try:
        known = {str(name): label if isinstance(label, int) else None for name, label in found["labels"]}
    except (TypeError, ValueError):
        raise ValueError(f"{path}: labels of {LABELS} must be pairs of a name and a number") from None
    return _classes(path, {f"{path}/{name}": known.get(name) for name in names})


def _classes(source: Any, labels: Mapping[str, Any]) -> tuple[list[int], list[str]]:
    """Labels 0..K-1 and the names of classes, by number if all names are numbers."""
    for name, label in labels.items():
        if label is None:
            raise ValueError(f"{name}: has no label (a number for each image), and other images of {source} have one")
    texts = {str(label) for label in labels.values()}
    classes = sorted(texts, key=(lambda t: (int(t), t)) if all(t.isdecimal() for t in texts) else None)
    number = {text: index for index, text in enumerate(classes)}
    return [number[str(label)] for label in labels.values()], classes


def _folders(names: Iterable[str]) -> tuple[list[int] | None, list[str] | None]:
    """Top folders as classes if every name has one and they are several.

    StyleGAN's tools cut a set into 00000/, 00001/, ... without a meaning, so that folders of digits alone are none.
    """
    tops = [name.split("/")[0] if "/" in name else None for name in (n.removeprefix("./") for n in names)]
    classes = sorted({top for top in tops if top is not None})
    if None in tops or len(classes) < 2 or all(len(top) == 5 and top.isdecimal() for top in classes):
        return None, None
    return [classes.index(top) for top in tops if top is not None], classes


def _reason(name, size):
    if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts or ":" in name[:2]:
        return OUTSIDE
    return f"of more than {LARGEST >> 20} MiB" if size > LARGEST else ""


def _hidden(name):
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/")) or "__MACOSX" in name


def _key(name):
    """A sample's name in a shard: up to the first dot of the last part, as WebDataset has it."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _stamp(paths):
    return [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
