"""The CUDA kernels of the spectral norm: right, in every schedule, with every access checked."""

import plain_spectral_norm as reference
import pytest
import torch
from comparison import flatten
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_spectral_norm import Network, check

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
RAGGED = [(1, 1), (5, 1), (1, 9), (128, 27), (17, 130), (40, 256), (3, 1100)]
SHORT_ROWS_ONLY = 1024  # bytes of shared memory: rows from about 100 elements on are not kept
MACHINES = [
    {"schedule": "sequential"},
    {"schedule": "reverse"},
    *({"schedule": "random", "seed": seed, "preempt": preempt} for seed in (1, 2) for preempt in (0, 20)),
    {"schedule": "random", "portable": True},
]


def check_all(emulated, network, **options):
    for op, arguments in network.calls(**options):
        check(emulated, op, arguments)


shapes = st.one_of(
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 12), st.integers(70, 700)),
    st.tuples(st.integers(70, 400), st.integers(1, 6)),
    st.tuples(st.integers(1, 40), st.sampled_from([64, 128, 256])),
)
networks = st.fixed_dictionaries(
    {
        "shapes": st.lists(shapes, min_size=1, max_size=5),
        "dtype": st.sampled_from(DTYPES),
        "seed": st.integers(0, 2**32),
        "misaligned": st.booleans(),
    }
)
machines = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(["sequential", "reverse", "random"]),
        "seed": st.integers(0, 2**32),
        "preempt": st.sampled_from([0, 0, 50]),
        "shared_memory": st.sampled_from([99 * 1024, 8 * 1024, SHORT_ROWS_ONLY]),
    }
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(networks, st.integers(1, 3), machines)
def test_drawn_networks_equal_the_reference(emulated, network, iterations, machine):
    emulated.configure(**machine)
    check_all(emulated, Network(**network), n_power_iterations=iterations)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shared_memory", [99 * 1024, SHORT_ROWS_ONLY])
def test_ragged_rows_equal_the_reference(emulated, dtype, shared_memory):
    emulated.configure(schedule="random", shared_memory=shared_memory)
    check_all(emulated, Network(RAGGED, dtype), n_power_iterations=2)


@pytest.mark.parametrize("shape", [(40, 2304), (9, 4700), (2, 12000)])
def test_long_rows_equal_the_reference(emulated, shape):
    # 8, 1 and no rows at a time in shared memory
    check_all(emulated, Network([shape]), n_power_iterations=2)


def test_strided_arguments_are_read_by_their_strides(emulated):
    network = Network([(12, 20)])
    transposed = [w.t().contiguous().t() for w in network.weights]
    assert not transposed[0].is_contiguous()
    expected = emulated.ops.spectral_norm(*network.forward())
    actual = emulated.ops.spectral_norm(transposed, *network.forward()[1:])
    assert all(torch.equal(a, e) for a, e in zip(flatten(actual), flatten(expected), strict=True))


def test_a_convolutions_weight_is_read_as_a_matrix(emulated):
    network = Network([(8, 18)])
    for op, arguments in network.calls():
        expected = getattr(emulated.ops, op)(*arguments)
        shaped = [
            [t.view(8, 2, 3, 3) if isinstance(t, torch.Tensor) and t.dim() == 2 else t for t in argument]
            if isinstance(argument, list)
            else argument
            for argument in arguments
        ]
        for a, e in zip(flatten(getattr(emulated.ops, op)(*shaped)), flatten(expected), strict=True):
            assert torch.equal(a, e.view(8, 2, 3, 3) if e.dim() == 2 else e)


def test_one_tensor_may_stand_in_several_places(emulated):
    network = Network([(16, 16)])
    w, u = network.weights[0], network.us[0]
    arguments = [w, w], [u, u], [u, u], 1, 1e-12, True
    check(emulated, "spectral_norm", arguments)


def test_results_have_the_same_bits_in_every_schedule(emulated):
    for dtype in (torch.float32, torch.bfloat16):
        network = Network([(70, 33), (1, 1), (24, 256), (5, 600)], dtype)
        for op, arguments in network.calls(n_power_iterations=2):
            results = []
            for machine in MACHINES:
                emulated.configure(**machine)
                results.append(flatten(getattr(emulated.ops, op)(*arguments)))
            for result in results[1:]:
                assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True)), op


def test_results_do_not_depend_on_how_much_shared_memory_a_gpu_has(emulated):
    network = Network([(11, 4700), (5, 300)])
    results = []
    for shared_memory in (63 * 1024, 48 * 1024):
        emulated.configure(shared_memory=shared_memory)
        results.append(flatten(emulated.ops.spectral_norm(*network.forward(3))))
    kept, *_, long = (
        launch.read["weight"] for launch in emulated.launches() if launch.kernel == "spectral_norm_multiply_kernel"
    )
    assert kept < long
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("eps", [1e-12, 0.5, 100.0])
def test_norms_below_eps_are_replaced_by_it(emulated, eps):
    check(emulated, "spectral_norm", Network([(9, 14), (3, 40)]).forward(2, eps))


@pytest.mark.parametrize("shared_memory", [99 * 1024, SHORT_ROWS_ONLY])
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_weights_without_a_norm_follow_torchs_arithmetic(emulated, value, shared_memory):
    emulated.configure(shared_memory=shared_memory)
    network = Network([(10, 300), (10, 300)])
    network.weights[0].fill_(0) if value == 0 else network.weights[0][3, 5].fill_(value)
    for arguments in (network.forward(), network.evaluation()):
        actual, expected = emulated.ops.spectral_norm(*arguments), reference.spectral_norm(*arguments)
        for a, e in zip(flatten(actual), flatten(expected), strict=True):
            torch.testing.assert_close(a.double(), e, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_vectors_stay_as_they_are_without_update(emulated):
    network = Network(RAGGED)
    _, old_us, old_vs, *_ = network.evaluation()
    _, _, us, vs = emulated.ops.spectral_norm(*network.evaluation())
    for new, old in zip((*us, *vs), (*old_us, *old_vs), strict=True):
        assert torch.equal(new, old)
        assert new.data_ptr() != old.data_ptr()
