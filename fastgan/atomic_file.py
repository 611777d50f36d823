"""Files and folders that are there whole or not at all, whenever the process is killed."""

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UNFINISHED = re.compile(r"\..+\.(\d+)\.unfinished(\..*)?")


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yields a path to write to. The file there takes the place of `path` when the block has ended without an error.

    Errors: FileExistsError if `path` is there and is not a regular file; OSError with the path if the disk refuses.
    """
    path = Path(path)
    _check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished{path.suffix}")
    try:
        with naming(path):
            yield unfinished
            sync(unfinished)
            os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Yields a new folder to fill. The folder takes the place of `path` when the block has ended without an error."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with naming(path):
            yield unfinished
            if path.exists():
                shutil.rmtree(path)
            os.replace(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def sweep(folder: Path | str) -> None:
    """Remove from the folder what killed processes left unfinished; what a living process writes stays."""
    for leftover in Path(folder).glob(".*.unfinished*"):
        owner = UNFINISHED.fullmatch(leftover.name)
        if owner and not _lives(int(owner[1])):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """An OSError of the block that names no file (a full disk, for one) names this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def sync(path: Path | str) -> None:
    """Have the file's bytes on the disk before anything that refers to them."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _check_replaceable(path):
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise FileExistsError(
            errno.EEXIST, f"is {kind}; only a regular file can be replaced: choose another path", str(path)
        )


def _lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass  # another user's
    return True
