"""The GPU path up to the launch, without a GPU: launches, Python frames, and calls that repeat from a plan."""

import functools
import json
import os
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("triton")

CYCLES = {
    "bias + silu": 3,
    "bias + leaky_relu": 3,
    "group norm": 4,  # the weight's gradient is a sum over programs
    "batch statistics": 10,
    "attention": 6,
}


@functools.cache
def found(name: str, **environment: str) -> dict:
    command = [sys.executable, "-m", "tests.kernels.host_path", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("cycle", CYCLES)
def test_launches_of_a_cycle(cycle):
    assert found("launches")[cycle]["launches"] == CYCLES[cycle]


@pytest.mark.parametrize("cycle", CYCLES)
def test_a_plan_launches_what_the_first_call_launched(cycle):
    assert found("launches")[cycle]["again"]


@pytest.mark.parametrize("cycle", CYCLES)
def test_the_registered_op_launches_what_the_fast_path_launches(cycle):
    assert found("launches")[cycle]["watched"]


def test_a_tensor_at_an_unaligned_address_is_not_served_from_a_plan_of_aligned_ones():
    assert found("launches")["unaligned"] == ["run", "run"]


@pytest.mark.parametrize("critic, most", [("R3GAN's critic", 48), ("WGAN-GP's critic", 126)])
def test_launches_of_a_penalty_and_its_backward(critic, most):
    assert 0 < found("launches")[critic] <= most


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
@pytest.mark.parametrize("cycle", ["bias + silu", "bias + leaky_relu"])
def test_triton_s_own_launcher_launches_what_plans_say(cycle):
    counts = found("driver")[cycle]
    assert counts["launches"] == counts["seen"] == CYCLES[cycle]
    assert counts["frames"] <= 32  # of Python code in fastgan and Triton


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_a_profiler_sees_the_launches_of_repeated_calls():
    assert found("driver")["hooked"] == ["bias_act_forward_kernel"]


def test_a_repeated_call_gives_the_bits_of_a_first_one():
    wrong = [name for name, same in found("repeated", TRITON_INTERPRET="1").items() if not same]
    assert not wrong


def test_plans_are_bounded():
    assert found("launches")["most plans"] == 3
