"""A direct call with extents whose product exceeds 64 bits, or with 2^40 empty samples, ends soon, in an exception or
a result."""

import json
import subprocess
import sys

import pytest

# One process imports torch; every call has a copy of it with 12 GiB of address space and 60 seconds. The expanded
# tensors have one element in memory, the empty ones none.
RUNNER = """
import json, os, resource, signal, sys
import torch
import fastgan

ops, BIG, HALF = torch.ops.fastgan, 1 << 40, torch.half

def zeros(*shape, dtype=torch.float32):
    return torch.zeros((), dtype=dtype).expand(shape)

def attention(q, k, v, dtype=torch.float32):
    return ops.attention(*(zeros(*shape, dtype=dtype) for shape in (q, k, v)), None, 1.0, False)

def penalty(grad):
    return ops.grad_norm_penalty(grad, 1.0, 0, 0.0)

def normalize(x, groups):
    return ops.normalize(x, None, None, groups, 1e-5)

def bias_act(x, bias=None):
    return ops.bias_act(x, bias, 0, 1, 0.2, 1.0, float("inf"))

def spectral_norm(w, u, v):
    return ops.spectral_norm([w], [u], [v], 1, 1e-12, True)

ends = []
for call in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))
        signal.alarm(60)
        try:
            eval(call)
        except (RuntimeError, MemoryError):
            os._exit(7)
        os._exit(0)
    ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(ends))
"""
RAISES = [
    "attention((1, 1, 1, 1 << 60), (1, 1, 1, 1 << 60), (1, 1, 1, 1))",
    "attention((1, 1, 1, 1), (1, 1, 1, 1), (1, 1, 1, 1 << 60))",
    "attention((1, 1, 1, 1), (1, 1, 1 << 60, 1), (1, 1, 1 << 60, 1))",
    "attention((1, 1, 1, 1 << 62), (1, 1, 1, 1 << 62), (1, 1, 1, 1), HALF)",
    "attention((1, BIG, 1, 1), (1, BIG, 1, 1), (1, BIG, 1, 1))",
    "penalty(torch.empty(BIG, 0))",
    "penalty(zeros(1 << 61))",
    "normalize(zeros(BIG, 1 << 20), 1)",
    "normalize(zeros(1 << 61, 1), 0)",
    "bias_act(zeros(1 << 61))",
    "spectral_norm(zeros(1, 1 << 61), zeros(1), zeros(1 << 61))",
    "spectral_norm(zeros(1 << 61, 1), zeros(1 << 61), zeros(1))",
]
RETURNS = [
    "attention((1, BIG, 0, 1), (1, BIG, 1, 1), (1, BIG, 1, 1))",
    "attention((BIG, 1 << 20, 0, 1), (BIG, 1 << 20, 0, 1), (BIG, 1 << 20, 0, 1))",
    "penalty(torch.empty(1 << 20, 0))",
    "bias_act(torch.empty(0, 1, 1).expand(0, BIG, BIG), torch.zeros(0))",
    "normalize(torch.empty(0, 1, 1, 1).expand(0, 1, BIG, BIG), 0)",
    "normalize(torch.empty(1 << 20, 1, 0), 1)",
]


@pytest.fixture(scope="module")
def end_of():
    calls = RAISES + RETURNS
    done = subprocess.run([sys.executable, "-c", RUNNER, json.dumps(calls)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(calls, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("call", RAISES)
def test_too_large_a_size_raises(call, end_of):
    assert end_of[call] == 7


@pytest.mark.parametrize("call", RETURNS)
def test_what_has_no_elements_takes_no_time(call, end_of):
    assert end_of[call] == 0
