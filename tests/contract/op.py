"""What an op gives to the suite."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from hypothesis.strategies import SearchStrategy

from tests.contract.layouts import contiguous


@dataclass(frozen=True)
class Case:
    """One way to call an op. The three functions take the tensors by name and return {name: output}."""

    name: str
    ours: Callable
    reference: Callable  # differentiable to any order, and exact in float64
    tensors: Callable  # () -> {name: tensor}, in float64
    plain: Callable | None = None  # with torch's own functions in the tensors' dtype; None: as the reference
    raw: bool = False  # calls torch.ops.fastgan directly
    by_reference: bool = False  # the public function sends it to the reference on every device
    constants: tuple = ()  # the tensors that never require a gradient
    layout: Callable = contiguous  # how all tensors lie in memory
    float32: float = 2e-5  # the relative error that float32 may have
    float64: float = 1e-11

    def inputs(self, dtype=torch.float64, device="cpu", wide=()):
        """The tensors, rounded to dtype; those in `wide` have the same values in float32."""
        tensors = {name: t.to(device, dtype) for name, t in self.tensors().items()}
        return {name: t.float() if name in wide else t for name, t in tensors.items()}

    @property
    def differentiable(self):
        return [name for name in self.tensors() if name not in self.constants]


def accumulator(dtype):
    """The dtype of sums and statistics."""
    return torch.float64 if dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class Op:
    name: str  # of torch.ops.fastgan.NAME
    tiny: list  # cases of a few elements, for what is slow: finite differences, torch.compile, every combination
    cases: list
    large: list  # cases that are cut between threads or blocks
    drawn: SearchStrategy  # of cases
    huge: list  # cases for a GPU alone
    raw_calls: Callable  # (dtype) -> [(torch.ops.fastgan.OP, arguments)] of the op and its two derivatives
    bad_calls: dict  # what is wrong -> (call of the public function, error, message)
    bad_raw_calls: dict  # what is wrong -> direct call of torch.ops.fastgan.OP
    own: dict = field(default_factory=dict)  # promises of this op alone: what it promises -> check(device)
    laid_out_like: str = ""  # the tensor whose memory format the results of its shape have
    wide: tuple = ()  # the tensors that may be float32 beside half precision
    autocast: torch.dtype = torch.float32  # of the first output for float32 inputs under autocast to bfloat16
    triton: tuple = ()  # the dtypes of its Triton kernels, for the interpreter; () for an op with CUDA C++ kernels
    free: tuple = ()  # "argument of raw op" that may have another shape than in raw_calls
