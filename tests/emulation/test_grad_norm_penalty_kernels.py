"""The CUDA kernels of the gradient penalty: right, in every schedule, with every access checked, and few."""

import pytest
import torch
from comparison import check, flatten
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_grad_norm_penalty import KINDS, Gradients

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
LAUNCHES = [
    ["grad_norm_penalty_squares_kernel", "grad_norm_penalty_norms_kernel"],
    ["grad_norm_penalty_backward_kernel"],
    ["grad_norm_penalty_double_backward_kernel", "grad_norm_penalty_double_backward_scalars_kernel"],
]
MACHINES = [
    {"schedule": "sequential"},
    {"schedule": "reverse"},
    *({"schedule": "random", "seed": seed, "preempt": preempt} for seed in (1, 2) for preempt in (0, 20)),
    {"schedule": "random", "portable": True},
]
# What the contract's cases do not have: few huge rows, cut into segments; rows for a warp; one element each; none.
SHAPES = [(2, 30_000), (700, 1), (1, 1), (3, 0), (9, 128), (4,)]


def check_all(emulated, gradients):
    for plain, arguments in gradients.calls():
        check(emulated, plain, arguments)


shapes = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(0, 40)),
    st.tuples(st.integers(1, 600), st.integers(1, 5)),
    st.tuples(st.integers(1, 5), st.integers(500, 9000)),
    st.tuples(st.integers(1, 9), st.sampled_from([64, 256, 1024, 4096, 8192])),
)
gradients = st.fixed_dictionaries(
    {
        "shape": shapes,
        "dtype": st.sampled_from(DTYPES),
        "seed": st.integers(0, 2**32),
        "misaligned": st.booleans(),
        "zeros": st.booleans(),
        "kind": st.sampled_from(KINDS),
        "target": st.sampled_from([0.0, 1.0, 7.0]),
        "eps": st.sampled_from([0.0, 0.25]),
    }
)
machines = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(["sequential", "reverse", "random"]),
        "seed": st.integers(0, 2**32),
        "preempt": st.sampled_from([0, 0, 50]),
    }
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gradients, machines)
def test_drawn_gradients_equal_the_reference(emulated, gradients, machine):
    emulated.configure(**machine)
    check_all(emulated, Gradients(**gradients))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_way_of_cutting_equals_the_reference(emulated, shape, dtype):
    emulated.configure(schedule="random")
    check_all(emulated, Gradients(shape, dtype, kind=len(shape) % 3))


@pytest.mark.parametrize("shape", [(2, 30_000), (3, 701), (300, 2)], ids=str)
def test_results_have_the_same_bits_in_every_schedule(emulated, shape):
    for plain, arguments in Gradients(shape, torch.bfloat16).calls():
        results = []
        for machine in MACHINES:
            emulated.configure(**machine)
            results.append(flatten(getattr(emulated.ops, plain.__name__)(*arguments)))
        assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(result, results[0], strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(2, 100_000), (64, 3, 16, 16), (2000, 12)], ids=str)
def test_the_gradient_is_read_once_and_little_else_moves(emulated, shape, dtype):
    data = Gradients(shape, dtype)
    size = data.grad.numel() * data.grad.element_size()
    moves = ({"grad": 1}, {}), ({"grad": 1}, {"d_grad": 1}), ({"grad": 1, "h": 1}, {"d_grad": 1})
    for (plain, arguments), kernels, (read, written) in zip(data.calls(), LAUNCHES, moves, strict=True):
        getattr(emulated.ops, plain.__name__)(*arguments)
        launches = emulated.launches()
        assert [launch.kernel for launch in launches] == kernels
        large = launches[0]
        assert {name: b / size for name, b in large.read.items() if name in ("grad", "h")} == read
        assert {name: b / size for name, b in large.written.items() if name == "d_grad"} == written
        # no more sums than samples, or each of many elements
        sums = large.written.get("sums", 0)
        assert sums <= max(len(data.grad) * 8, size / 1000)


def test_few_long_samples_and_many_short_ones_both_fill_a_gpu(emulated):
    for shape, least, most in (((1, 2_000_000), 200, 1024), ((4, 500_000), 200, 1024), ((30_000, 8), 100, 200)):
        emulated.ops.grad_norm_penalty(torch.ones(shape, dtype=torch.bfloat16), 1.0, 0, 0.0)
        assert least <= emulated.launches()[0].blocks <= most, shape
