import os

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.data import ImageError, image_folder, load


def write(path, size=(8, 8), colour=(255, 0, 0), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path)


def test_subfolders_are_classes_in_alphabetical_order(tmp_path):
    for name in ("zebra/1.png", "ant/1.png", "ant/deep/2.jpg", ".cache/x.png"):
        write(tmp_path / name)
    data = image_folder(tmp_path, resolution=8)
    assert data.classes == ("ant", "zebra")
    assert data.labels.tolist() == [0, 0, 1]


def test_flat_folder_has_no_labels(tmp_path):
    write(tmp_path / "a.png", colour=(255, 255, 255))
    write(tmp_path / "b.PNG", colour=(0, 0, 0))
    (tmp_path / "notes.txt").write_text("not an image")
    data = image_folder(tmp_path, resolution=8)
    images, labels = data.batch(torch.tensor([1, 0]))
    assert labels is None and data.classes is None
    assert images[0].unique().tolist() == [-1] and images[1].unique().tolist() == [1]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_fitted_to_the_asked_size_and_channels(tmp_path, channels):
    write(tmp_path / "wide.png", size=(40, 10))
    write(tmp_path / "small.png", size=(3, 5), mode="L")
    images, _ = image_folder(tmp_path, 16, channels).batch(torch.arange(2))
    assert images.shape == (2, channels, 16, 16)


def test_the_middle_is_kept(tmp_path):
    pixels = np.zeros((10, 30), np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "stripe.png")
    images, _ = image_folder(tmp_path, 10, 1).batch(torch.tensor([0]))
    assert images.min() == 1


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(tmp_path / "deep.png")
    images, _ = image_folder(tmp_path, 8, 1).batch(torch.tensor([0]))
    assert images.abs().max() < 0.01


@pytest.mark.parametrize("memory", [0, 2**30])
def test_in_memory_and_on_demand_give_the_same_batches(tmp_path, memory):
    for index in range(5):
        write(tmp_path / f"{index}.png", colour=(index * 50,) * 3)
    data = image_folder(tmp_path, 8, 1, memory=memory)
    assert hasattr(data, "samples") == (memory > 0)
    images, _ = data.batch(torch.tensor([4, 1]))
    assert torch.allclose(images[:, 0, 0, 0], torch.tensor([200, 50]) / 127.5 - 1)


def test_truncated_image_is_named_by_its_path(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    broken = tmp_path / "broken.jpg"
    Image.fromarray(noise).save(broken)
    broken.write_bytes(broken.read_bytes()[:1000])
    with pytest.raises(ImageError, match=r"broken\.jpg: cannot be read as an image: .*truncated"):
        image_folder(tmp_path)
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        image_folder(tmp_path, memory=0).batch(torch.tensor([0]))


def test_a_text_file_named_png_is_named_by_its_path(tmp_path):
    (tmp_path / "fake.png").write_text("hello")
    with pytest.raises(ImageError, match=r"fake\.png"):
        image_folder(tmp_path)


def test_missing_folder_no_images_and_mixtures_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        load(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="has no images"):
        image_folder(tmp_path)
    write(tmp_path / "a.png")
    with pytest.raises(NotADirectoryError, match="is a file"):
        image_folder(tmp_path / "a.png")
    write(tmp_path / "class" / "b.png")
    with pytest.raises(ValueError, match="both in itself and in sub-folders"):
        image_folder(tmp_path)
    (tmp_path / "a.png").unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: has no images, but is taken for a class"):
        image_folder(tmp_path)


@pytest.mark.parametrize("bad", [{"resolution": 0}, {"channels": 2}])
def test_impossible_sizes_are_refused(tmp_path, bad):
    write(tmp_path / "a.png")
    for source in ("fashion", str(tmp_path)):
        with pytest.raises(ValueError, match=next(iter(bad))):
            load(source, **bad)


def test_what_systems_leave_behind_is_left_out(tmp_path):
    for name in ("cats/a.png", "dogs/a.png", ".ipynb_checkpoints/a.png", "cats/.ipynb_checkpoints/a.png"):
        write(tmp_path / name)
    write(tmp_path / "__MACOSX/cats/a.png")
    (tmp_path / "cats/._a.png").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / "dogs/.DS_Store").write_bytes(b"\0")
    with pytest.warns(UserWarning, match="1 left out: 1 with a hidden name$"):
        data = image_folder(tmp_path, 8)
    assert data.classes == ("cats", "dogs") and len(data) == 2 and data.skipped == {"with a hidden name": 1}


@pytest.mark.parametrize("memory", [0, 2**30])
def test_formats_that_are_not_read_and_files_that_are_not_plain_are_counted(tmp_path, memory):
    write(tmp_path / "a.png")
    for name in ("b.gif", "c.gif", "d.avif", "e.jfif"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("not an image")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dead.png").symlink_to("nowhere.png")
    with pytest.warns(UserWarning, match=r"6 left out: .*2 \.gif \(not a format that is read\)"):
        data = image_folder(tmp_path, 8, memory=memory)
    assert len(data) == 1 and sum(data.skipped.values()) == 6


def test_folders_behind_links_are_visited_once(tmp_path):
    root = tmp_path / "root"
    for name in ("root/a/1.png", "root/b/2.png", "elsewhere/3.png", "root/.store/c/4.png"):
        write(tmp_path / name)
    for number in range(4):
        (root / "a" / f"loop{number}").symlink_to("..", target_is_directory=True)
    (root / "a" / "other_class").symlink_to("../b", target_is_directory=True)
    (root / "c").symlink_to(".store/c", target_is_directory=True)  # of a hidden folder: nothing else shows it
    (root / "d").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "d" / "back").symlink_to(root, target_is_directory=True)
    with pytest.warns(UserWarning, match="6 linked folders that are visited at another place"):
        data = image_folder(root, 8, links=True)
    assert data.classes == ("a", "b", "c", "d") and data.labels.tolist() == [0, 1, 2, 3]
    with pytest.warns(UserWarning, match="1 links out of the folder"):
        assert image_folder(root, 8).classes == ("a", "b", "c")


@pytest.mark.parametrize("memory", [0, 2**30])
def test_broken_images_are_left_out_on_demand(tmp_path, memory):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("a/1.png", "b/2.png"):
        write(tmp_path / name)
    Image.fromarray(noise).save(tmp_path / "a/cut.jpg")
    (tmp_path / "a/cut.jpg").write_bytes((tmp_path / "a/cut.jpg").read_bytes()[:1000])
    (tmp_path / "a/text.png").write_text("hello")
    with pytest.warns(UserWarning, match="2 left out: 2 broken"):
        data = image_folder(tmp_path, 8, memory=memory, skip_broken=True)
    assert data.labels.tolist() == [0, 1] and data.batch(torch.arange(2))[0].shape == (2, 3, 8, 8)
    (tmp_path / "b/2.png").write_text("hello")
    with pytest.raises(ValueError, match="b: has no images, but is taken for a class"):
        image_folder(tmp_path, 8, memory=memory, skip_broken=True)


def test_a_name_does_not_choose_the_format(tmp_path):
    (tmp_path / "script.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match=r"script\.jpg: cannot be read as an image: cannot identify"):
        image_folder(tmp_path)


def test_a_decompression_bomb_is_named_by_its_path(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    write(tmp_path / "bomb.png", size=(20, 20))
    with pytest.raises(ImageError, match=r"bomb\.png: .*decompression bomb"):
        image_folder(tmp_path)
