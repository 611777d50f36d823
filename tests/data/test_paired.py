import pytest
import torch

from fastgan import data


def square():
    image = torch.full((1, 1, 20, 20), -1.0)
    image[..., 5:15, 5:15] = 0.5
    return image


def test_edges_of_a_square_are_its_thin_closed_outline():
    line = data.edges(square())[0, 0] > 0
    assert not line[7:13, 7:13].any() and not line[:3].any()
    assert 28 <= line.sum() <= 48
    assert line[10].sum() == 2 and line[:, 10].sum() == 2


def test_a_silhouette_fills_holes_and_finds_either_background():
    image = square()
    image[..., 8:12, 8:12] = -1
    expected = torch.where(square() > -1, 1.0, -1.0)
    assert torch.equal(data.silhouette(image), expected)
    assert torch.equal(data.silhouette(-image), expected)


@pytest.mark.parametrize("source", ["edges", "low_resolution", "silhouette"])
def test_pairs_bring_the_source_as_the_condition(source):
    garments = data.fashion_mnist()
    pairs = data.paired(garments, source)
    images, condition = pairs.batch(torch.arange(5))
    assert torch.equal(images, garments.batch(torch.arange(5))[0])
    assert condition.shape == (5, 1, 28, 28) and pairs.condition_shape == (1, 28, 28) and pairs.classes is None
    assert condition.min() >= -1 and condition.max() <= 1


def test_low_resolution_keeps_the_mean_and_its_own_size_on_request():
    small = data.paired(data.fashion_mnist(), "low_resolution", enlarge=False)
    images, condition = small.batch(torch.arange(3))
    assert condition.shape == (3, 1, 7, 7) and torch.allclose(condition.mean(), images.mean(), atol=1e-5)
    with pytest.raises(ValueError, match="factor must be at least 2 and divide the image's sides, got 5"):
        data.low_resolution(images, factor=5)


def test_both_stages_and_labels():
    garments = data.fashion_mnist(channels=3)
    both, shapes = data.with_silhouette(garments), data.silhouettes(garments)
    images, labels = both.batch(torch.arange(4))
    assert both.shape == (4, 28, 28) and shapes.shape == (1, 28, 28) and shapes.classes == garments.classes
    assert torch.equal(images[:, :1], shapes.batch(torch.arange(4))[0])
    assert torch.equal(labels, garments.batch(torch.arange(4))[1])


def test_what_makes_no_pair_is_refused():
    with pytest.raises(ValueError, match="source must be one of edges, low_resolution, silhouette, or a function"):
        data.paired(data.fashion_mnist(), "depth")
    with pytest.raises(ValueError, match="data must be images"):
        data.paired(data.ring(count=5))
