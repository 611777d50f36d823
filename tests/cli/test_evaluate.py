"""`fastgan evaluate`, on an extractor that was trained for a moment."""

import hashlib
import importlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastgan import cli, metrics
from fastgan.cli.exit_codes import DATA
from fastgan.data import fashion_mnist
from fastgan.figures import save_grid


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    module = importlib.import_module("fastgan.metrics.features.fashion_cnn")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    module.default_path().parent.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(module.FashionCNN().state_dict(), module.default_path())


def run(*arguments):
    return cli.main(["evaluate", *map(str, arguments)])


def images(folder, indices):
    folder.mkdir()
    for i in indices:
        save_grid(fashion_mnist().batch(torch.tensor([i]))[0], folder / f"{i}.png")
    return folder


def test_a_run_is_evaluated_and_the_numbers_are_kept(tmp_path, capsys):
    folder = tmp_path / "run"
    tiny = ["--steps", "2", "--width", "8", "--z-dim", "8", "--batch-size", "8", "--run-dir", str(folder)]
    assert cli.main(["train", *tiny]) == 0
    capsys.readouterr()
    assert run("--run-dir", folder, "--count", 60, "--metrics", "fid,kid,prdc,modes") == 0
    said = capsys.readouterr().out
    assert "FID(fashion-cnn)" in said and "N = 60" in said and "fashion-cnn#" in said
    assert run("--run-dir", folder, "--count", 60, "--metrics", "fid", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    kept = [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]
    assert [r["name"] for r in kept].count("FID(fashion-cnn)") == 2 and kept[-1] == row
    assert kept[0]["value"] == row["value"] and row["step"] == 2 and row["against"] == "fashion"
    assert row["extractor"] == f"fashion-cnn#{row['extractor_hash']}" and row["versions"]["torch"]


def test_a_folder_is_evaluated_against_the_garments_or_a_folder(tmp_path, capsys):
    mine, other = images(tmp_path / "mine", range(20)), images(tmp_path / "other", range(20, 50))
    assert run("--images", mine, "--against", "fashion", "--count", 20, "--resolution", 28, "--channels", 1) == 0
    assert run("--images", mine, "--against", other, "--metrics", "pr,vendi") == 0
    assert "N = 20 / 30" in capsys.readouterr().out


def test_a_broken_image_ends_the_command_or_is_left_out(tmp_path, capsys):
    mine = images(tmp_path / "mine", range(20))
    (mine / "broken.png").write_bytes((mine / "0.png").read_bytes()[:40])
    flags = ["--images", mine, "--against", "fashion", "--count", 20, "--resolution", 28, "--channels", 1]
    assert run(*flags, "--metrics", "pr") == DATA
    assert "broken.png" in capsys.readouterr().err
    assert run(*flags, "--metrics", "pr", "--skip-broken") == 0
    assert "1 left out: 1 broken" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], "needs one of --run-dir and --images"),
        (["--images", "x"], "x: there is no such folder"),
        (["--run-dir", "x"], "holds no run"),
        (["--run-dir", "x", "--metrics", "fad"], "metrics must be among fid, kid"),
        (["--run-dir", "x", "--count", "0"], "count must be at least 1; got 0"),
        (["--images", "{mine}"], "--images needs --against"),
        (
            ["--images", "{mine}", "--against", "fashion", "--extractor", "vgg"],
            "extractor must be fashion-cnn, inception:FILE",
        ),
        (["--images", "{mine}", "--against", "fashion", "--extractor", "inception:x.pth"], "fastgan downloads none"),
        (["--images", "ring", "--against", "fashion"], "ring holds samples of shape (2,)"),
        (["--images", "{mine}", "--against", "fashion"], "k must be from 1 to"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    mine = images(tmp_path / "mine", range(4))
    assert run(*(f.format(mine=mine) for f in flags)) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "\n" not in said


def test_features_of_real_images_are_kept_until_the_images_change(tmp_path, monkeypatch, capsys):
    mine, other = images(tmp_path / "mine", range(20)), images(tmp_path / "other", range(20, 50))
    made = []
    of = metrics.Extractor.features
    monkeypatch.setattr(metrics.Extractor, "features", lambda self, x: made.append(len(x)) or of(self, x))

    def value(*more):
        assert run("--images", mine, "--against", other, "--metrics", "fid", "--json", *more) == 0
        return json.loads(capsys.readouterr().out)["value"]

    first = value()
    assert value() == first and made == [20, 30, 20]
    assert value("--seed", 1) == pytest.approx(first, rel=1e-3) and made[3:] == [20, 30]
    for path in (tmp_path / "cache/fastgan/real_features").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert value() == first and made[5:] == [20, 30]
    save_grid(fashion_mnist().batch(torch.tensor([99]))[0], other / "20.png")
    assert value() != first and made[7:] == [20, 30]
    assert run("--images", mine, "--against", other, "--metrics", "fid,ms_ssim", "--resolution", 64) == 0


def pixels():
    return torch.nn.Flatten()


def test_the_classifier_of_garments_is_said_to_know_nothing_else_unless_it_is_chosen(tmp_path, capsys):
    mine, other = images(tmp_path / "mine", range(20)), images(tmp_path / "other", range(20, 50))
    pair = ["--images", mine, "--against", other, "--metrics", "vendi"]
    assert run(*pair) == 0
    assert f"{other}: fashion-cnn knows garments alone" in capsys.readouterr().err
    for chosen in ("fashion-cnn", f"{__name__}:pixels"):
        assert run(*pair, "--extractor", chosen) == 0
        said = capsys.readouterr()
        assert not said.err and f"Vendi({chosen})" in said.out


def test_nan_images_of_a_run_are_refused(tmp_path, capsys):
    folder = tmp_path / "run"
    tiny = ["--steps", "2", "--width", "8", "--z-dim", "8", "--batch-size", "8", "--run-dir", str(folder)]
    assert cli.main(["train", *tiny]) == 0
    for path in folder.rglob("average.safetensors"):
        tensors = load_file(path)
        first = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
        save_file(tensors | {first: tensors[first] * torch.nan}, path)
        described = json.loads((path.parent / "state.json").read_text())
        described["sha256"]["average"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (path.parent / "state.json").write_text(json.dumps(described))
    capsys.readouterr()
    assert run("--run-dir", folder, "--count", 60, "--metrics", "kid") == 2
    assert "samples must be finite, got NaN" in capsys.readouterr().err
    assert not (folder / "evaluations.jsonl").exists()


def test_digits_can_be_evaluated(capsys):
    for against in ("digits", "fashion"):
        assert run("--images", "digits", "--against", against, "--metrics", "vendi", "--count", 50) == 0
