"""Results of the emulated kernels beside those of plain torch in float64."""

import torch


def flatten(results):
    """The tensors of an op's result: a tensor, a list, or a tuple of either."""
    if isinstance(results, torch.Tensor):
        return [results]
    return [t for part in results for t in flatten(part)]


def assert_close(actual, expected, terms=10.0):
    """Right to the rounding of the result (half a unit in the last place) and what summing in fp32, fp64 may cost.

    terms: how large the terms are that a scalar is a sum of; it may be less itself.
    """
    accumulate = torch.float64 if actual.dtype == torch.float64 else torch.float32
    rounding = 0 if actual.dtype == accumulate else torch.finfo(actual.dtype).eps / 2
    subnormal = torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps
    summing = 200 * torch.finfo(accumulate).eps
    largest = expected.abs().max().item() if expected.numel() else 0.0
    absolute = summing * max(terms if expected.dim() == 0 else 0.0, largest) + (subnormal if rounding else 0)
    torch.testing.assert_close(actual.double(), expected, rtol=1.02 * rounding + summing, atol=absolute)


def check(emulated, plain, arguments):
    """The emulated op of the same name equals the function `plain`."""
    actual = getattr(emulated.ops, plain.__name__)(*arguments)
    for a, e in zip(flatten(actual), flatten(plain(*arguments)), strict=True):
        assert_close(a, e)
