import pytest
import torch

from fastgan.data import TensorData, as_data


def test_bytes_become_minus_one_to_one_and_floats_stay():
    images, labels = TensorData(torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8)).batch(torch.tensor([0, 1]))
    torch.testing.assert_close(images, torch.tensor([[-1, 1], [-0.6, -0.2]]))
    assert labels is None
    points = torch.randn(5, 2, dtype=torch.float64)
    assert torch.equal(TensorData(points).batch(torch.arange(5))[0], points.float())


def test_a_tensor_is_a_data_set():
    assert as_data(torch.zeros(3, 2)).shape == (2,)
    with pytest.raises(TypeError, match=r"data must be a tensor or NumPy array, or .* got list"):
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
