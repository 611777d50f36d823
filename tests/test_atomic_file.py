"""Writes that are whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastgan.atomic_file import replacing, sweep


def write(path, text="new"):
    with replacing(path) as unfinished:
        unfinished.write_text(text)


def test_a_regular_file_and_a_new_name_are_written(tmp_path):
    for _ in range(2):
        write(tmp_path / "new" / "a.txt")
    assert (tmp_path / "new" / "a.txt").read_text() == "new" and os.listdir(tmp_path / "new") == ["a.txt"]


@pytest.mark.parametrize("kind", ["link", "dead link", "pipe", "folder", "device"])
def test_what_is_not_a_regular_file_is_refused_and_stays(tmp_path, kind):
    path, target = tmp_path / "x.png", tmp_path / "target.png"
    if kind == "link":
        target.write_text("old")
    if "link" in kind:
        path.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path = Path("/dev/null")
    before = os.lstat(path)
    with pytest.raises(FileExistsError, match=f"is a {kind.removeprefix('dead ')}; only a regular file can be"):
        write(path)
    assert os.lstat(path).st_mode == before.st_mode and os.lstat(path).st_ino == before.st_ino
    assert not target.exists() or target.read_text() == "old"


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    write(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a") as unfinished:
        unfinished.write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_leftovers_of_dead_processes_alone_are_swept(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for owner in (dead.pid, os.getpid()):
        (tmp_path / f".a.png.{owner}.unfinished.png").write_text("half")
        (tmp_path / f".step_00000001.{owner}.unfinished").mkdir()
    (tmp_path / ".mine.unfinished").write_text("not ours")
    sweep(tmp_path)
    left = {".mine.unfinished", f".a.png.{os.getpid()}.unfinished.png", f".step_00000001.{os.getpid()}.unfinished"}
    assert set(os.listdir(tmp_path)) == left
