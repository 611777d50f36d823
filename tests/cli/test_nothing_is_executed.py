"""No file and no text that a command takes can make it run code."""

import os
import pickle

import pytest

from fastgan import cli, data

TINY = ["--steps", "2", "--width", "4", "--z-dim", "4", "--batch-size", "8"]


class Bomb:
    """Unpickled, this makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def command(*arguments):
    """Run a command; how it fails is not what is tested here."""
    try:
        cli.main(list(map(str, arguments)))
    except (Exception, SystemExit):
        return


@pytest.fixture
def run(tmp_path):
    """A run's folder, and the folder that an executed bomb would make."""
    assert cli.main(["train", *TINY, "--run-dir", str(tmp_path / "run")]) == 0
    return tmp_path / "run", tmp_path / "executed"


def files(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def read_everything(folder):
    command("sample", "--run-dir", folder, "--out", folder.parent / "s.png")
    command("evaluate", "--run-dir", folder, "--count", 16, "--metrics", "vendi", "--extractor", f"{__name__}:pixels")
    command("train", *TINY[2:], "--steps", "3", "--run-dir", folder, "--resume")


def pixels():
    from torch import nn

    return nn.Flatten()


def test_files_of_a_run_that_are_pickles_or_yaml_objects_are_not_executed(run):
    folder, executed = run
    bombs = {".yaml": f"a: !!python/object/apply:os.mkdir ['{executed}']\n".encode()}
    for name in files(folder):
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(bombs.get(path.suffix, pickle.dumps(Bomb(executed))))
        read_everything(folder)
        assert not executed.exists(), name
        path.write_bytes(whole)
    pickle.loads(pickle.dumps(Bomb(executed)))
    assert executed.exists(), "the bomb is one"


@pytest.mark.parametrize("flag", ["--penalties", "--schedules", "--generator-terms", "--augment", "--loss", "--data"])
def test_texts_of_flags_are_not_evaluated(tmp_path, flag):
    executed = tmp_path / "executed"
    for text in (
        f"__import__('os').mkdir('{executed}')",
        f"R1(gamma=__import__('os').mkdir('{executed}'))",
        f"!!python/object/apply:os.mkdir ['{executed}']",
    ):
        command("train", *TINY, "--run-dir", tmp_path / "run", flag, text)
    assert not executed.exists()


def test_images_that_are_pickles_or_programs_are_not_executed(tmp_path):
    executed = tmp_path / "executed"
    for number, content in enumerate((pickle.dumps(Bomb(executed)), b"%!PS-Adobe-3.0 EPSF-3.0\nshowpage\n")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "image.png").write_bytes(content)
        command("train", *TINY, "--run-dir", tmp_path / "run", "--data", folder, "--resolution", 16)
        with pytest.raises(data.ImageError, match=r"image\.png"):
            data.load(str(folder))
    assert not executed.exists()
