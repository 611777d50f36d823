"""A generator in the formats of other tools. The numbers of each file are compared with torch's."""

import io
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import torch
from torch import nn

from fastgan.atomic_file import replacing
from fastgan.extras import require
from fastgan.models.sampling import generate
from fastgan.nn import to_torch

TOLERANCE = 1e-4  # of values in [-1, 1], in float32


class DifferentNumbers(RuntimeError):
    """A file does not give the numbers of the generator that it was made from."""


def difference(given: torch.Tensor, expected: torch.Tensor, what: str) -> float:
    """max |given - expected| / max(1, max |expected|). Errors: DifferentNumbers if that is more than 1e-4."""
    worst = float((given - expected).abs().max() / expected.abs().max().clamp(min=1))
    if not worst <= TOLERANCE:
        raise DifferentNumbers(f"{what}: differs from torch by {worst:.2g}, where at most {TOLERANCE:.0e} is rounding")
    return worst


def save_onnx(
    generator: nn.Module, path: str | Path, z: torch.Tensor, condition: torch.Tensor | None = None
) -> float | None:
    """Write the generator as ONNX, for batches of any size; inputs "z" and "condition", output "samples".

    z (B, z_dim), condition: an example of the inputs, B at least 2. Returns the largest difference of onnxruntime's
    numbers from torch's, relative to the largest value if that is above 1; None if onnxruntime is not installed.
    Errors: ModuleNotFoundError without onnx or onnxscript; DifferentNumbers for more than 1e-4.
    """
    for module in ("onnx", "onnxscript"):
        require(module, "export")
    inputs = _inputs(z, condition)
    plain = to_torch(generator)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            plain,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=["samples"],
            dynamic_shapes=_any_batch(inputs),
            verbose=False,
        )
    assert program is not None
    with replacing(path) as unfinished:
        unfinished.write_bytes(program.model_proto.SerializeToString())
    try:
        runtime = require("onnxruntime", "export")
    except ModuleNotFoundError:
        return None
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    fewer = {name: value[:-1] for name, value in inputs.items()}  # a batch of another size than the example's
    given = session.run(None, {name: value.numpy() for name, value in fewer.items()})[0]
    return difference(torch.from_numpy(given), _expected(plain, fewer), f"{path}")


def save_program(
    generator: nn.Module, path: str | Path, z: torch.Tensor, condition: torch.Tensor | None = None
) -> float:
    """Write the generator by torch.export, for batches of any size; torch.export.load(path).module() runs it.

    z (B, z_dim), condition: an example of the inputs, B at least 2. Returns the largest difference from torch's
    numbers, as save_onnx. Errors: DifferentNumbers for more than 1e-4.
    """
    inputs = _inputs(z, condition)
    plain = to_torch(generator)
    program = torch.export.export(plain, tuple(inputs.values()), dynamic_shapes=_any_batch(inputs))
    with replacing(path) as unfinished:
        written = io.BytesIO()
        torch.export.save(program, written)
        unfinished.write_bytes(written.getvalue())
    fewer = {name: value[:-1] for name, value in inputs.items()}
    with torch.no_grad():
        given = torch.export.load(str(path)).module()(*fewer.values())
    return difference(given, _expected(plain, fewer), f"{path}")


def _inputs(z, condition):
    if len(z) < 2:
        raise ValueError(f"z must hold at least 2 latents, so that the batch can have any size; got {len(z)}")
    return {"z": z} if condition is None else {"z": z, "condition": condition}


def _any_batch(inputs):
    return tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)


@torch.no_grad()
def _expected(plain, inputs):
    return generate(plain, *inputs.values())
