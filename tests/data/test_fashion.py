import torch

from fastgan.data import fashion_mnist


def test_ten_thousand_garments_a_thousand_of_each_kind():
    data = fashion_mnist()
    assert len(data) == 10_000 and data.shape == (1, 28, 28) and len(data.classes) == 10
    assert torch.bincount(data.labels).tolist() == [1000] * 10


def test_values_fill_minus_one_to_one():
    images, labels = fashion_mnist().batch(torch.arange(100))
    assert images.dtype == torch.float32 and images.shape == (100, 1, 28, 28)
    assert images.min() == -1 and images.max() == 1
    assert labels.dtype == torch.int64


def test_first_garment_is_an_ankle_boot():
    data = fashion_mnist()
    _, labels = data.batch(torch.tensor([0, 2]))
    assert [data.classes[label] for label in labels] == ["ankle boot", "trouser"]
    picture = data.samples[0, 0].float()
    assert picture[:5].max() == 0 and picture[18:24].mean() > 80  # nothing above the shoe, and a sole


def test_32_pixels_pad_and_others_resample():
    native, padded, larger = (fashion_mnist(resolution).samples for resolution in (28, 32, 64))
    assert torch.equal(padded[:, :, 2:-2, 2:-2], native)
    assert padded[:, :, :2].max() == padded[..., -2:].max() == 0
    assert larger.shape == (10_000, 1, 64, 64)
    assert abs(larger[:500].float().mean() - native[:500].float().mean()) < 1


def test_three_channels_repeat_the_grey_value():
    images, _ = fashion_mnist(channels=3).batch(torch.arange(4))
    assert images.shape == (4, 3, 28, 28)
    assert torch.equal(images[:, 0], images[:, 2])
