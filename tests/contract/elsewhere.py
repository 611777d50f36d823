"""The cases in a separate process: an environment variable has to be set before the ops are imported.

`python -m tests.contract.elsewhere cpu` or `... interpreter OP SHARE` prints {case: what failed, or null} as JSON.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.contract.check import check, partial_uses
from tests.contract.every_op import EVERY_OP, listed
from tests.contract.interpreter import serving_cpu_tensors

ROOT = Path(__file__).parents[2]


def failures(where, *arguments, **environment):
    """{"case, dtype": what failed or None}, of a process with these environment variables."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), **environment}
    command = [sys.executable, "-m", "tests.contract.elsewhere", where, *arguments]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def with_dtypes(cases, dtypes):
    return {f"{name}, {str(t).removeprefix('torch.')}": (*case, t) for name, case in cases.items() for t in dtypes}


def cpu_cases():
    """{"case, dtype": (op, case, dtype)}"""
    return with_dtypes(listed("tiny", "cases", "large"), (torch.float64, torch.float32))


SHARES = {"normalize": 2}  # processes in the interpreter for an op with many cases: no test takes 20 s


def interpreted():
    """{case of the Triton kernels or promise of one op: (op, share)}"""
    found = {}
    for op in (op for op in EVERY_OP if op.triton):
        names = [*interpreted_cases(op), *(f"{op.name}: {what}" for what in op.own)]
        found |= {name: (op.name, str(i % SHARES.get(op.name, 1))) for i, name in enumerate(names)}
    return found


def interpreted_cases(op):
    """The cases of an op's Triton kernels: all in the first dtype that they have, the tiny ones in the others."""
    return with_dtypes(listed("cases", ops=[op]), op.triton[:1]) | with_dtypes(listed("tiny", ops=[op]), op.triton)


def failure_of(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except AssertionError as error:
        return str(error)
    except Exception as error:  # a case that raises does not keep the others from running
        return f"{type(error).__name__}: {error}"
    return None


def run_on_cpu():
    results = {name: failure_of(check, case, dtype) for name, (_, case, dtype) in cpu_cases().items()}
    return results | {f"{op.name}: {what}": failure_of(f, "cpu") for op in EVERY_OP for what, f in op.own.items()}


def run_in_the_interpreter(op_name, share):
    from fastgan.kernels import attention, channels, normalize

    channels.ENOUGH_PROGRAMS = normalize.ENOUGH_PROGRAMS = 4  # so that small cases have programs with several tiles
    attention.LEAST_BLOCKS = 1  # and sums in pieces
    results = {}
    (op,) = (op for op in EVERY_OP if op.name == op_name)
    mine = {name for name, where in interpreted().items() if where == (op_name, share)}
    with serving_cpu_tensors(op_name) as calls:
        for name, (_, case, dtype) in interpreted_cases(op).items():
            if name not in mine:
                continue
            # The interpreter truncates a bfloat16 result, a GPU rounds it: a whole unit in the last place.
            units = 1.0 if dtype == torch.bfloat16 else 0.5
            partly = partial_uses(case) if case in op.tiny[:2] and dtype == op.triton[0] else [{}]
            calls.clear()
            found = [failure_of(check, case, dtype, units=units, **how) for how in partly]
            if len(calls) < 3:
                found.append(f"of the three kernels these alone ran: {sorted(calls)}")
            results[name] = next((failure for failure in found if failure), None)
        promises = {f"{op_name}: {what}": promise for what, promise in op.own.items()}
        results |= {name: failure_of(promise, "cpu") for name, promise in promises.items() if name in mine}
    return results


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True, warn_only=True)  # fresh memory is NaN
    print(json.dumps({"cpu": run_on_cpu, "interpreter": run_in_the_interpreter}[sys.argv[1]](*sys.argv[2:])))
