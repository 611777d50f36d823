import pytest
import torch

from fastgan import data
from fastgan.data.sources.toys import GRIDS, RINGS

MIXTURES = [(data.ring, name) for name in RINGS] + [(data.grid, name) for name in GRIDS]


@pytest.mark.parametrize(("make", "preset"), MIXTURES)
def test_points_lie_about_distinct_modes_with_the_given_sigma(make, preset):
    toy = make(preset, count=20_000)
    apart = torch.cdist(toy.modes, toy.modes).fill_diagonal_(9).min()
    assert apart > 0.5  # linspace(0, 2 pi, 8) would count one mode twice
    points, labels = toy.batch(torch.arange(len(toy)))
    deviation = points - toy.modes[labels]
    assert deviation.std(0).tolist() == pytest.approx([toy.sigma] * 2, rel=0.03)
    assert deviation.mean(0).abs().max() < 4 * toy.sigma / 20_000**0.5
    assert torch.bincount(labels).min() > 0.8 * 20_000 / len(toy.modes)


def test_the_constants_are_the_papers():
    assert len(data.ring(count=1).modes) == 8 and len(data.ring("presgan", count=1).modes) == 10
    radii = [data.ring(name, count=1).modes.norm(dim=1) for name in ("pacgan", "unrolled", "wgan_gp", "presgan")]
    for radius, expected in zip(radii, (1, 2, 1.41443, 3), strict=True):
        assert torch.allclose(radius, torch.tensor(float(expected)), atol=1e-5)
    assert data.ring("wgan_gp", count=1).sigma == pytest.approx(0.01414, abs=1e-5)
    assert sorted(set(data.grid(count=1).modes.flatten().tolist())) == [-4, -2, 0, 2, 4]
    assert data.grid("wgan_gp", count=1).modes.max().item() == pytest.approx(4 / 2.828)


def test_swiss_roll_winds_once_outwards():
    points, labels = data.swiss_roll(count=5000).batch(torch.arange(5000))
    radius = points.norm(dim=1)
    assert labels is None and 0.45 < radius.min() < 0.65 and 1.85 < radius.max() < 2.05


def test_the_set_is_drawn_once_from_its_seed():
    indices = torch.arange(10)
    assert torch.equal(data.ring(count=10).batch(indices)[0], data.ring(count=10).batch(indices)[0])
    assert not torch.equal(data.ring(count=10).batch(indices)[0], data.ring(count=10, seed=1).batch(indices)[0])
    assert len(data.grid()) == 100_000 and data.grid().shape == (2,)


def test_toys_are_resampled_with_replacement_as_a_function_of_seed_and_number():
    toy = data.ring(count=50)
    order = data.Order.of(toy, 3)
    assert torch.equal(order.take(4000, 1000), data.Order.of(toy, 3).take(4000, 1000))
    assert not torch.equal(order.take(4000, 1000), order.take(5000, 1000))
    drawn = torch.cat([order.take(k * 1000, 1000) for k in range(10)])
    assert torch.bincount(drawn).float().std() > 8  # binomial, not equal
    assert not data.Order.of(data.TensorData(torch.zeros(5, 2)), 0).replacement


def test_unknown_presets_and_names_list_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="preset must be one of pacgan, wgan_gp, unrolled, presgan; got 'x'"):
        data.ring("x")
    with pytest.raises(FileNotFoundError, match=r"rnig: there is no such folder or file, nor a data set.*ring.*digits"):
        data.load("rnig")
    with pytest.raises(ValueError, match="resolution cannot be chosen for ring"):
        data.load("ring", resolution=32)
    assert data.load("ring_unrolled").sigma == 0.02


def test_a_thousand_modes_of_stacked_digits():
    stacked = data.load("digits")
    images, labels = stacked.batch(torch.arange(1000))
    assert images.shape == (1000, 3, 8, 8) and images.min() == -1 and images.max() == 1
    assert len(stacked) == 100_000 and len(torch.unique(stacked.labels)) == 1000 == len(stacked.classes)
    digits, names = data.digits()
    for channel, unit in enumerate((100, 10, 1)):
        assert torch.equal(images[:, channel], digits[stacked.triples[:1000, channel]])
        assert torch.equal(labels // unit % 10, names[stacked.triples[:1000, channel]])
    assert len(data.digits("train")[0]) + len(data.digits("held_out")[0]) == 1797
