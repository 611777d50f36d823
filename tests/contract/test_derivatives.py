"""A derivative is right to second order, or it raises: every case, every dtype, every combination of inputs."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from tests.contract.check import check
from tests.contract.closeness import assert_all_close
from tests.contract.derivatives import COTANGENTS, derivatives
from tests.contract.every_op import EVERY_OP, listed

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ALL, TINY = listed("tiny", "cases", "large"), listed("tiny")
BESIDE_PLAIN_TORCH = {name: case for name, (_, case) in listed("tiny", "cases").items() if case.plain}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALL)
def test_outputs_and_both_derivatives_are_the_references(name, dtype):
    check(ALL[name][1], DTYPES[dtype])


OWN = {f"{op.name}: {what}": holds for op in EVERY_OP for what, holds in op.own.items()}


@pytest.mark.parametrize("name", OWN)
def test_what_one_op_promises(name):
    OWN[name]("cpu")


@pytest.mark.parametrize("name", BESIDE_PLAIN_TORCH)
def test_the_reference_is_torchs_own(name):
    case = BESIDE_PLAIN_TORCH[name]
    requires = [*case.differentiable, COTANGENTS]
    reference, plain = (derivatives(f, case.inputs(), requires) for f in (case.reference, case.plain))
    assert_all_close(reference, plain, 1e-11)


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: op.name)
def test_any_shape_and_layout(op):
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(case=op.drawn, dtype=st.sampled_from([torch.float64, torch.float64, torch.float32]))
    def check_drawn(case, dtype):
        check(case, dtype)

    check_drawn()


def subsets(names):
    return [list(chosen) for n in range(1, len(names) + 1) for chosen in combinations(names, n)]


COMBINATIONS = {
    f"{name}: {' + '.join(requires)}": (case, requires)
    for name, (_, case) in TINY.items()
    for requires in subsets([*case.differentiable, COTANGENTS])
    if requires != [COTANGENTS]
}


@pytest.mark.parametrize("name", COMBINATIONS)
def test_any_combination_of_what_requires_a_gradient(name):
    """A penalty may use all of the first gradients, or one."""
    case, requires = COMBINATIONS[name]
    wanted = [n for n in requires if n != COTANGENTS]
    for used in [wanted, *([n] for n in wanted if len(wanted) > 1)]:
        check(case, requires=requires, used=used)


@pytest.mark.parametrize("name", TINY)
def test_gradcheck_and_gradgradcheck(name):
    case = TINY[name][1]
    inputs = case.inputs()
    leaves = [inputs[n].requires_grad_() for n in case.differentiable]

    def function(*leaves):
        outputs = case.ours(**inputs | dict(zip(case.differentiable, leaves, strict=True)))
        return tuple(t for t in outputs.values() if t.requires_grad)

    assert gradcheck(function, leaves)
    assert gradgradcheck(function, leaves)


@pytest.mark.parametrize("name", TINY)
def test_third_order_raises(name):
    check_third_order(TINY[name][1])


def check_third_order(case):
    results = derivatives(case.ours, case.inputs(), [*case.differentiable, COTANGENTS])
    second = [t for n, t in results.items() if n.startswith("second grad") and t.requires_grad]
    assert second, "a second derivative without a graph would be a constant of the third"
    leaf = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with pytest.raises(NotImplementedError, match="no further derivative"):
        (leaf + sum(t.square().sum() for t in second)).backward()
