"""The first promise: outputs, first and second derivatives are those of the reference in float64."""

import math
import re

import torch

from tests.contract.closeness import assert_all_close, relative_error, smallest_norm
from tests.contract.derivatives import COTANGENTS, derivatives


def check(case, dtype=torch.float64, device="cpu", requires=None, used=None, layout=None, wide=(), units=0.5):
    """Raises an AssertionError that names the tensor.

    units: of the last place, by which the rounding of a half-precision result may err.
    """
    inputs = case.inputs(dtype, device, wide)
    requires = [*case.differentiable, COTANGENTS] if requires is None else requires
    how = {"requires": requires, "used": used, "rounding": dtype}
    ours = derivatives(case.ours, inputs, layout=layout or case.layout, **how)
    exact = derivatives(case.reference, {name: t.cpu().double() for name, t in inputs.items()}, **how)
    if dtype in (torch.float64, torch.float32):
        assert_all_close(ours, exact, case.float64 if dtype == torch.float64 else case.float32)
    else:
        plain = derivatives(case.plain or case.reference, {name: t.to(dtype) for name, t in inputs.items()}, **how)
        assert_no_worse_than(plain, ours, exact, rounding=units * torch.finfo(dtype).eps)
    for name, t in inputs.items():
        if name in requires:
            assert ours[f"grad of {name}"].dtype == t.dtype, f"grad of {name}: dtype {ours[f'grad of {name}'].dtype}"


def partial_uses(case):
    """What requires a gradient and which of the first gradients a penalty uses: all, and each alone."""
    yield {}
    if len(case.differentiable) > 1:
        for name in case.differentiable:
            yield {"requires": [name]}
            yield {"used": [name]}


def assert_no_worse_than(plain, ours, exact, rounding):
    """At most twice plain torch's own error, three times for gradients, beside the rounding of the result.

    The tensors of a list ("sigma 0", "sigma 1" ...) count as one. If plain torch overflows, the rounding alone is left.
    """
    assert list(ours) == list(exact) == list(plain)
    ours, plain, exact = (joined(results) for results in (ours, plain, exact))
    floor = smallest_norm(exact)
    for name in exact:
        error, theirs = (relative_error(t[name], exact[name], floor) for t in (ours, plain))
        factor = 3 if "grad of" in name else 2
        allowed = factor * (theirs if math.isfinite(theirs) else 0.0) + rounding
        assert error <= allowed, f"{name}: relative error {error:.2e}, plain torch's {theirs:.2e}"


def joined(results):
    lists = {}
    for name, t in results.items():
        lists.setdefault(re.sub(r" \d+$", "", name), []).append(t.detach().double().flatten())
    return {name: torch.cat(tensors) for name, tensors in lists.items()}
