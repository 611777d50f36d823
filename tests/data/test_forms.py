"""Each form of data that `load` and `as_data` take, and the batches that a run gets from it."""

import io
import json
import tarfile
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from fastgan import Recipe, Trainer, cli, models
from fastgan.data import Fit, NoResume, Order, as_data, check, image_folder, load
from fastgan.data.batches import batches
from fastgan.data.sources.archives import zip_files
from fastgan.data.sources.encoded import encoded

GREYS = (0, 51, 102, 153, 204, 255)


def png(grey, size=(8, 8)):
    file = io.BytesIO()
    Image.new("RGB", size, (grey,) * 3).save(file, "PNG")
    return file.getvalue()


def greys(data, indices=None):
    samples, labels = data.batch(torch.arange(len(data)) if indices is None else indices)
    return ((samples[:, 0, 0, 0] + 1) * 127.5).round().int().tolist(), None if labels is None else labels.tolist()


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return str(path)


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(path)


# --- archives


@pytest.mark.parametrize("workers", [0, 2])
def test_a_zip_of_stylegan_has_the_labels_of_its_json(tmp_path, workers):
    images = {f"00000/img{k}.png": png(grey) for k, grey in enumerate(GREYS)}
    pairs = [[name, 10 - k % 2] for k, name in enumerate(images)]
    path = write_zip(tmp_path / "a.zip", {**images, "dataset.json": json.dumps({"labels": pairs})})
    data = load(path, 8)
    assert data.classes == ("9", "10") and greys(data) == (list(GREYS), [1, 0, 1, 0, 1, 0])
    demand = encoded(zip_files(path), Fit(8), memory=0, workers=workers)  # processes open the archive themselves
    order = Order(6, 0)
    for samples, labels in batches(demand, [order.take(k, 4) for k in (0, 4, 8)]):
        assert labels.tolist() == [1 - (int((s[0, 0, 0] + 1) * 127.5 + 0.5) // 51) % 2 for s in samples]


def test_folders_of_an_archive_are_classes_but_not_numbered_ones(tmp_path):
    assert load(write_zip(tmp_path / "a.zip", {"cat/1.png": png(0), "dog/1.png": png(255)}), 8).classes == (
        "cat",
        "dog",
    )
    members = {"00000/1.png": png(0), "00001/1.png": png(255)}
    assert load(write_tar(tmp_path / "a.tar", members), 8).classes is None


def test_members_that_lead_out_of_an_archive_are_left_out(tmp_path):
    bad = {name: png(9) for name in ("../1.png", "/2.png", "a/../../3.png", "C:/4.png")}
    for path in (
        write_zip(tmp_path / "a.zip", {**bad, "5.png": png(51)}),
        write_tar(tmp_path / "a.tar", {**bad, "5.png": png(51)}),
    ):
        with pytest.warns(UserWarning, match="4 left out: 4 with a path out of the archive"):
            assert greys(load(path, 8)) == ([51], None)


def test_shards_of_webdataset(tmp_path):
    for shard in range(2):
        members = {}
        for k in range(3):
            members |= {f"{shard}{k}.png": png(GREYS[3 * shard + k]), f"{shard}{k}.cls": str(k % 2).encode()}
        write_tar(tmp_path / f"s-{shard:03}.tar", members)
    for source in (tmp_path, tmp_path / "s-{000..001}.tar"):
        assert greys(load(source, 8)) == (list(GREYS), [0, 1, 0, 0, 1, 0])
    write_tar(tmp_path / "s-002.tar", {"x.png": png(0)})
    with pytest.raises(ValueError, match=r"s-002\.tar/x\.png: has no label"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"s-003\.tar: there is no such file"):
        load(tmp_path / "s-{002..003}.tar")
    (tmp_path / "s-000.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ValueError, match=r"s-000\.tar: cannot be read as a plain tar file"):
        load(tmp_path / "s-000.tar")


# --- arrays


def test_files_of_numpy_and_torch(tmp_path):
    images = np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in GREYS])
    labels = np.arange(6) % 3
    np.save(tmp_path / "a.npy", images[..., 0])
    np.savez(tmp_path / "a.npz", images=images.transpose(0, 3, 1, 2), labels=labels)
    torch.save((torch.from_numpy(images), torch.from_numpy(labels)), tmp_path / "a.pt")
    assert greys(load(tmp_path / "a.npy")) == (list(GREYS), None)
    assert greys(load(tmp_path / "a.npz", 8, 3)) == (list(GREYS), labels.tolist())
    with pytest.warns(UserWarning, match="channels last"):
        assert load(tmp_path / "a.pt").shape == (3, 8, 8)
    with pytest.raises(ValueError, match=r"resolution cannot be chosen for .*a\.npz"):
        load(tmp_path / "a.npz", 16)
    np.savez(tmp_path / "b.npz", first=images, second=labels)
    with pytest.raises(ValueError, match="holds the entries first, second; name samples one of images"):
        load(tmp_path / "b.npz")


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('executed')",)


@pytest.mark.parametrize("suffix", ["npy", "pt"])
def test_objects_in_files_are_not_executed(tmp_path, suffix):
    path = tmp_path / f"bomb.{suffix}"
    torch.save(Bomb(), path) if suffix == "pt" else np.save(path, np.array([Bomb()], object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as arrays or tensors without running code"):
        load(path)


# --- tables


def test_tables_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    columns = {
        "picture": [{"bytes": png(grey), "path": None} for grey in GREYS],
        "kind": [0, 1, 0, 1, 0, 1],
    }
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict(columns, features)
    table.save_to_disk(tmp_path / "saved")
    for data in (as_data(table), load(tmp_path / "saved", 8)):
        assert data.classes == ("a", "b") and greys(data) == (list(GREYS), [0, 1, 0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"has no column of images among kind"):
        as_data(table.remove_columns("picture"))


# --- torch's Datasets


class Own(Dataset):
    classes = ("even", "odd")

    def __init__(self, form):
        self.form = form

    def __len__(self):
        return 6

    def __getitem__(self, index):
        image = torch.full((3, 8, 8), GREYS[index], dtype=torch.uint8)
        if self.form == "flipped":
            return torch.rand(3, 8, 8) * 2 - 1
        return {"pair": (image, index % 2), "dict": {"image": image.numpy(), "label": index % 2}}[self.form]


@pytest.mark.parametrize("form", ["pair", "dict"])
def test_datasets_of_torch(form):
    expected = (list(GREYS), [0, 1, 0, 1, 0, 1])
    for data in (as_data(Own(form)), as_data(DataLoader(Own(form), 2, shuffle=True))):
        assert data.shape == (3, 8, 8) and data.classes == ("even", "odd") and greys(data) == expected
    assert greys(as_data(Subset(Own(form), [1, 3]))) == ([51, 153], [1, 1])
    assert as_data(TensorDataset(torch.zeros(4, 2))).shape == (2,)


def test_a_run_on_a_loader_is_the_run_on_its_tensor(tmp_path):
    points, weights = torch.randn(20, 2), []
    for data in (points, DataLoader(TensorDataset(points), 7, shuffle=True, num_workers=1)):
        torch.manual_seed(0)
        pair = models.create("mlp", features=2, width=8)
        trainer = Trainer(*pair, Recipe(batch_size=8), data, run_dir=tmp_path / type(data).__name__, progress=False)
        trainer.fit(4)
        weights.append([weight.detach().clone() for weight in trainer.state.generator.parameters()])
    assert all(map(torch.equal, *weights))


def test_ranges_and_layouts_of_datasets_are_warned_of():
    with pytest.warns(UserWarning, match=r"half of \[-1, 1\]"):
        as_data(TensorDataset(torch.rand(9, 3, 8, 8)))
    with pytest.raises(TypeError, match=r"a sample must be a tensor, a pair .* got str"):
        as_data(Subset("abc", [0, 1]))


def test_what_a_loader_would_lose_is_refused():
    with pytest.raises(ValueError, match="a collate_fn would be lost"):
        as_data(DataLoader(Own("pair"), 2, collate_fn=list))
    with pytest.raises(ValueError, match="WeightedRandomSampler would be lost"):
        as_data(DataLoader(Own("pair"), 2, sampler=torch.utils.data.WeightedRandomSampler([1.0] * 6, 6)))


def test_random_transforms_do_not_depend_on_workers_nor_on_where_a_run_begins():
    updates, found = [Order(6, 0).take(4 * k, 4) for k in range(4)], []
    for workers, start in ((0, 0), (1, 0), (2, 0), (2, 2)):
        data = as_data(DataLoader(Own("flipped"), num_workers=workers))
        before = torch.get_rng_state()
        found.append([samples for samples, _ in batches(data, updates[start:])])
        assert torch.equal(torch.get_rng_state(), before)
    for others in (found[1], found[2], found[0][:2] + found[3]):
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(10.0).view(5, 2))


def test_a_stream_gives_its_samples_in_turn_and_warns():
    with pytest.warns(NoResume, match=r"\(Stream\) is a stream: a run that resumes begins at the start"):
        data = as_data(DataLoader(Stream(), 2))
    found = [samples[:, 0].tolist() for samples, _ in batches(data, [torch.zeros(3), torch.zeros(3), torch.zeros(1)])]
    assert found == [[0, 2, 4], [6, 8, 0], [2]] and len(data) == 5


# --- how images are read


def test_crops_and_transparency(tmp_path):
    pixels = np.zeros((8, 16, 4), np.uint8)
    pixels[:, :, 0], pixels[:, 4:12, 3] = 200, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    every = torch.tensor([0])

    def image(**how):
        return (load(tmp_path, 8, **how).batch(every)[0][0] + 1) * 127.5

    assert image().shape == (3, 8, 8) and image()[0].round().unique().tolist() == [200]
    assert image(crop="stretch", alpha="white")[1, 0, 0] == 255 and image(crop="stretch", alpha="black")[0, 0, 0] == 0
    kept = image(crop="stretch", alpha="keep")
    assert kept.shape == (4, 8, 8) and kept[0, 0, [0, 4]].round().tolist() == [0, 255] and abs(kept[1, 0, 4] - 200) < 3
    with pytest.raises(ValueError, match=r"a\.png: .*its size is 16x8, and crop='none' takes 8x8"):
        image(crop="none")
    with pytest.raises(ValueError, match="resize must be one of bicubic, lanczos, bilinear, box; got 'cubic'"):
        image(resize="cubic")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr", "I;16"])
def test_every_mode_is_read(tmp_path, mode):
    grey = Image.new("L", (8, 8), 255)
    image = Image.fromarray(np.full((8, 8), 65535, np.uint16)) if mode == "I;16" else grey.convert(mode)
    image.save(tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png"))
    assert load(tmp_path, 8).batch(torch.tensor([0]))[0].min() == 1


def test_a_picture_is_turned_upright(tmp_path):
    image, tags = Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 4, 0).repeat(8, 1)), Image.Exif()
    tags[0x0112] = 3  # upside down
    image.save(tmp_path / "a.png", exif=tags)
    assert load(tmp_path, 8, 1).batch(torch.tensor([0]))[0][0, 0, :, 0].tolist() == [1] * 4 + [-1] * 4


def test_a_cache_is_read_until_a_file_changes(tmp_path, monkeypatch):
    folder, cache = tmp_path / "images", tmp_path / "cache"
    folder.mkdir()
    for k, grey in enumerate(GREYS):
        (folder / f"{k}.png").write_bytes(png(grey))
    assert greys(load(folder, 8, cache=cache)) == (list(GREYS), None)
    (written,) = cache.glob("*.npy")
    with monkeypatch.context() as patched:
        patched.setattr("fastgan.data.sources.encoded.decode", lambda *_: pytest.fail("decoded again"))
        assert greys(load(folder, 8, cache=cache)) == (list(GREYS), None)
    assert greys(load(folder, 8, crop="stretch", cache=cache))[0] == list(GREYS) and len(list(cache.glob("*.npy"))) == 2
    (folder / "0.png").write_bytes(png(9, (9, 9)))
    assert greys(load(folder, 8, cache=cache))[0][0] == 9 and written.exists()
    (folder / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"0\.png"):
        load(folder, 8, cache=cache)
    assert len(list(cache.iterdir())) == 4  # the lock, and nothing unfinished


def test_links_out_of_a_folder_need_leave(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out.png").write_bytes(png(51))
    (tmp_path / "in/a.png").symlink_to("../out.png")
    with pytest.raises(ValueError, match=r"has no images.*1 links out of the folder \(links=True"):
        image_folder(tmp_path / "in")
    assert greys(image_folder(tmp_path / "in", 8, links=True)) == ([51], None)


# --- the command line


def test_check_lists_what_is_wrong(tmp_path, capsys):
    folder = tmp_path / "images"
    for name, content in {
        "a/1.png": png(0, (64, 64)),
        "a/2.png": png(0, (64, 64)),
        "a/cut.png": png(0, (64, 64))[:60],
        "b/small.png": png(51, (8, 8)),
        "b/wide.png": png(102, (200, 70)),
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    found = check(folder)
    assert found.count == 4 and found.sizes["64x64"] == 2 and found.classes == {"a": 2, "b": 2}
    assert {what: len(names) for what, names in found.problems.items()} == {
        "broken": 1,
        "smaller than 64 pixels": 1,
        "of which a crop of the middle keeps less than half": 1,
        "with the bytes of another": 1,
    }
    assert cli.main(["data", "check", str(folder), "--grid", str(tmp_path / "grid.png")]) == 0
    assert "problem:  1 broken: " in capsys.readouterr().out and Image.open(tmp_path / "grid.png").mode == "RGB"
    assert cli.main(["data", "check", "ring"]) == 0 and "100,000, 2" in capsys.readouterr().out


CALLED = []


def makes_data():
    CALLED.append(True)
    return torch.randn(64, 2)


def test_a_function_is_called_if_a_flag_names_it_and_not_if_a_run_does(tmp_path, capsys):
    run = ["--run-dir", str(tmp_path / "run"), "--width", "4", "--z-dim", "4", "--batch-size", "8"]
    named = ["--data", f"{__name__}:makes_data"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cli.main(["train", *run, *named, "--steps", "1"]) == 0
        assert cli.main(["train", *run[:2], "--resume", "--steps", "2"]) == 2
        assert "is a function, which is called only if a flag names it" in capsys.readouterr().err
        assert cli.main(["train", *run[:2], *named, "--resume", "--steps", "2"]) == 0
        called = len(CALLED)
        assert cli.main(["report", run[1]]) == 0 and len(CALLED) == called
    assert cli.main(["train", *run, "--data", f"{__name__}:nothing"]) == 2
    with pytest.raises(TypeError, match="os:getcwd must be a Python function that returns data"):
        load("os:getcwd")
