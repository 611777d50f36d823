"""Where tensors lie, how many threads there are and which instructions the processor has: none of it matters."""

import pytest
import torch

from fastgan import _library
from tests.contract.check import check
from tests.contract.derivatives import COTANGENTS, derivatives
from tests.contract.elsewhere import failures
from tests.contract.every_op import EVERY_OP, listed
from tests.contract.layouts import LAYOUTS

LAID_OUT = {name: case for name, (_, case) in listed("tiny", "cases").items()}
LARGE = {name: case for name, (_, case) in listed("large").items()}
INSTRUCTION_SETS = ("baseline", "avx2", "avx512")
# The other tests run the cases with the best one that this processor has.
LOWER = INSTRUCTION_SETS[: INSTRUCTION_SETS.index(_library.isa())]


def test_fresh_memory_is_nan():
    assert torch.empty(3).isnan().all()
    assert torch.empty(3, dtype=torch.bfloat16).isnan().all()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__.replace("_", " "))
@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: op.name)
def test_tensors_of_any_stride_give_the_same_numbers(op, layout):
    for case in (*op.tiny, *op.cases):
        try:
            check(case, layout=layout)
        except AssertionError as error:
            raise AssertionError(f"{case.name}: {error}") from None


FOUR_DIMENSIONS = {
    f"{name}, {memory_format}": (op, case, getattr(torch, memory_format))
    for name, (op, case) in listed("cases").items()
    for memory_format in ("contiguous_format", "channels_last")
    if op.laid_out_like and case.name != "layer_norm" and case.tensors()[op.laid_out_like].dim() == 4
}


@pytest.mark.parametrize("name", FOUR_DIMENSIONS)
def test_results_lie_in_memory_like_the_input(name):
    op, case, memory_format = FOUR_DIMENSIONS[name]
    inputs = {n: t.contiguous(memory_format=memory_format) if t.dim() == 4 else t for n, t in case.inputs().items()}
    x = inputs[op.laid_out_like].requires_grad_()
    outputs = case.ours(**inputs)
    (grad,) = torch.autograd.grad(sum(t.square().sum() for t in outputs.values()), x)
    for result in (*outputs.values(), grad):
        assert result.shape != x.shape or result.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("name", LARGE)
def test_results_do_not_depend_on_the_number_of_threads(name):
    case, threads = LARGE[name], torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            requires = [*case.differentiable, COTANGENTS]
            results.append(derivatives(case.ours, case.inputs(torch.float32), requires, layout=case.layout))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert [n for n in other if not torch.equal(other[n], results[0][n])] == []


@pytest.fixture(scope="module", params=LOWER)
def on_instruction_set(request):
    return failures("cpu", FASTGAN_ISA=request.param)


@pytest.mark.parametrize("op", EVERY_OP, ids=lambda op: op.name)
def test_every_lower_instruction_set_is_right(on_instruction_set, op):
    of_op = {name: failure for name, failure in on_instruction_set.items() if name.startswith(f"{op.name}:")}
    assert len(of_op) == 2 * len((*op.tiny, *op.cases, *op.large)) + len(op.own)
    assert {name: failure for name, failure in of_op.items() if failure} == {}
