import warnings

import pytest
import torch

from fastgan.data import TensorData, as_data
from fastgan.data.batches import batches


def test_bytes_become_minus_one_to_one_and_floats_stay():
    images, labels = TensorData(torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8)).batch(torch.tensor([0, 1]))
    torch.testing.assert_close(images, torch.tensor([[-1, 1], [-0.6, -0.2]]))
    assert labels is None
    points = torch.randn(5, 2, dtype=torch.float64)
    assert torch.equal(TensorData(points).batch(torch.arange(5))[0], points.float())


def test_a_tensor_is_a_data_set():
    assert as_data(torch.zeros(3, 2)).shape == (2,)
    with pytest.raises(TypeError, match=r"data must be a tensor or NumPy array, .* got list"):
        as_data([1, 2])


@pytest.mark.parametrize(
    "samples, labels, error, words",
    [
        ([1.0], None, TypeError, "samples must be a uint8 or floating-point tensor or NumPy array, got list"),
        (torch.zeros(3, 2, dtype=torch.int64), None, TypeError, "got a tensor of torch.int64"),
        (torch.zeros(3), None, ValueError, r"got \(3,\)"),
        (torch.zeros(0, 2), None, ValueError, r"got \(0, 2\)"),
        (torch.zeros(3, 2), [0, 1], ValueError, r"labels must have shape \(3,\), got \(2,\)"),
        (torch.zeros(3, 2), [0, -1, 1], ValueError, "labels must lie in"),
    ],
)
def test_bad_tensors_are_refused_by_name(samples, labels, error, words):
    with pytest.raises(error, match=words):
        TensorData(samples, labels)


IMAGES = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
def test_arrays_are_data_sets(dtype):
    scaled = IMAGES if dtype == "uint8" else (IMAGES / 127.5 - 1).to(getattr(torch, dtype))
    images, _ = as_data(scaled.numpy()).batch(torch.arange(6))
    torch.testing.assert_close(images, IMAGES / 127.5 - 1, atol=1e-3, rtol=0)
    with pytest.raises(TypeError, match="got an array of int64"):
        as_data(IMAGES.numpy().astype("int64"))


@pytest.mark.parametrize("shape", [(6, 2), (6, 1, 4, 4)])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_samples_that_are_not_finite_are_named(shape, value):
    samples = torch.zeros(shape)
    samples.view(6, -1)[2:4, 1] = value
    with pytest.raises(ValueError, match=r"2 of 6 hold NaN or infinity, the first is samples\[2\]"):
        TensorData(samples)


def test_float_images_of_another_range_are_refused_or_warned_of():
    with pytest.raises(
        ValueError, match=r"samples lie in 0\.\.255; float images must lie in .* try samples / 127.5 - 1"
    ):
        TensorData(IMAGES.float())
    with pytest.warns(UserWarning, match=r"samples lie in 0\.\.1, half of \[-1, 1\]: try 2 \* samples - 1"):
        TensorData(IMAGES / 255)
    with pytest.warns(UserWarning, match="a generator that ends in tanh reaches"):
        TensorData(IMAGES / 42.5 - 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TensorData(IMAGES / 127.5 - 1), TensorData(IMAGES), TensorData(100 * torch.rand(6, 2))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_channels_that_come_last_are_warned_of(dtype):
    images = IMAGES if dtype == torch.uint8 else IMAGES / 127.5 - 1
    with pytest.warns(UserWarning, match=r"channels come second, \(N, C, H, W\): try samples.permute"):
        TensorData(images.permute(0, 2, 3, 1))


class Own:
    """A data set whose sample 5 is broken."""

    shape, classes = (2,), None

    def __len__(self):
        return 8

    def batch(self, indices):
        samples = torch.zeros(len(indices), 2)
        samples[indices == 5] = torch.nan
        return samples, None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_sample_of_any_data_set_is_named(workers):
    data = Own()
    data.workers = workers
    stream = batches(data, [torch.tensor([1, 2]), torch.tensor([3, 5])])
    next(stream)
    with pytest.raises(ValueError, match=r"data \(Own\): sample 5 holds NaN or infinity"):
        next(stream)
