"""torch's private names, in one place, each with what serves in its place when a torch does not have it."""

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import torch
from torch.autograd import forward_ad


def _fallback_any_requires_grad(*args: Any) -> bool:
    return any(isinstance(t, torch.Tensor) and t.requires_grad for t in args)


def _executes_always(node):
    return True


# A context in which an op runs its device's kernel, below autograd. None: `_autograd.register` then leaves the
# derivatives to torch.library.register_autograd, and every call takes the dispatcher's way.
below_autograd: Any = getattr(torch._C, "_AutoDispatchBelowAutograd", None)
any_requires_grad = getattr(torch._C, "_any_requires_grad", _fallback_any_requires_grad)


def bare(op: Any) -> Any:
    """An op without torch's Python wrapper around it."""
    return getattr(op, "_op", op)


def cpu_kernel(op: Any) -> Callable[..., Any] | None:
    """The op's CPU kernel, for plain CPU tensors: past the dispatcher. None: torch does not hand it out."""
    redispatch = getattr(getattr(op, "_handle", None), "redispatch_boxed", None)
    if redispatch is None:
        return None
    return functools.partial(redispatch, torch._C.DispatchKeySet(torch._C.DispatchKey.CPU))


if {"to_save", "materialize_grads"} <= set(torch._C._FunctionBase.__dict__):

    def save_for_backward(ctx: Any, *tensors: torch.Tensor | None) -> None:
        """Saves tensors; the gradient of an output that has none arrives as None. One call in place of two."""
        ctx.to_save, ctx.materialize_grads = tensors, False

else:

    def save_for_backward(ctx: Any, *tensors: torch.Tensor | None) -> None:
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)


def give_engine_the_backward(function: type[torch.autograd.Function]) -> None:
    """The engine calls an autograd Function's backward through two Python frames of torch's; this leaves them out."""
    if hasattr(getattr(function, "_backward_cls", None), "apply"):
        function._backward_cls.apply = function.backward


# Who watches a call. If torch does not say, everybody may: then no call takes the fast path.
functorch_is_active = getattr(torch._C, "_are_functorch_transforms_active", None) or (lambda: True)
dispatch_modes = getattr(torch._C, "_len_torch_dispatch_stack", None) or (lambda: 1)
is_batch = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", None) or (lambda tensor: True)
profiler_is_on = getattr(getattr(torch._C, "_autograd", None), "_profiler_enabled", None) or (lambda: True)
is_tracing = getattr(torch._C, "_is_tracing", None) or torch.jit.is_tracing
_engine_executes = getattr(torch._C, "_will_engine_execute_node", _executes_always)


# Its _current_level is at least 0 while a forward_ad.dual_level may be open.
forward_mode = forward_ad if hasattr(forward_ad, "_current_level") else SimpleNamespace(_current_level=0)

if hasattr(forward_ad, "_current_level"):

    def forward_mode_is_active() -> bool:
        """Whether a forward_ad.dual_level is open."""
        return forward_ad._current_level >= 0

else:

    def forward_mode_is_active() -> bool:
        """It may be: tangents decide."""
        return True


def is_tracing_for_onnx():
    """Whether torch.onnx exports through torch.export. torch.onnx is not imported for the question."""
    return torch.compiler.is_exporting() and "torch.onnx" in sys.modules and torch.onnx.is_in_onnx_export()


_backward_pass = getattr(torch._C, "_current_graph_task_id", None) or (lambda: None)


def backward_pass() -> int:
    """The number of the backward pass that runs now, -1 outside of one."""
    return torch._C._current_graph_task_id()


def running_node() -> Any:
    """The node of autograd's graph that a backward pass runs now; None: there is none, or torch does not say."""
    return getattr(torch._C, "_current_autograd_node", lambda: None)()


def _fallback_next_node_number():
    return float("inf")  # later than every node: a recomputation raises


# The number that autograd's next node in this thread will have.
next_node_number = getattr(getattr(torch._C, "_autograd", None), "_get_sequence_nr", _fallback_next_node_number)


def without_subclasses() -> AbstractContextManager:
    """A context in which no tensor subclass's __torch_function__ runs."""
    return torch._C.DisableTorchFunctionSubclass()


_pass_that_returns_leaves: int | None = -1


def wanted(ctx: Any, count: int) -> tuple[bool, ...]:
    """Which gradients of x and its count - 1 parameters the backward pass that runs now uses.

    ctx.needs_input_grad says what the graph could use. As torch's own ops do, this leaves out the parameters' gradients
    when the pass does not use them: the inner gradient of a penalty does not. x is the first input, the parameters
    follow; an absent parameter is None, as are those after it.

    torch raises for a leaf whose gradient torch.autograd.grad returns. The exception takes longer than a small layer,
    so that after one exception the rest of the pass counts as used.
    """
    global _pass_that_returns_leaves
    needs = list(ctx.needs_input_grad[:count])
    if not needs[0] or _backward_pass() == _pass_that_returns_leaves:
        return tuple(needs)
    try:
        for i in range(1, count):
            if needs[i]:
                needs[i] = _engine_executes(ctx.next_functions[i][0])
    except RuntimeError:
        _pass_that_returns_leaves = _backward_pass()
    return tuple(needs)


def kernel_is_registered(op: str, key: str) -> bool:
    """Whether fastgan::op has a kernel of its own for a dispatch key."""
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"fastgan::{op}", key)


def op_names() -> set[str]:
    """Every op of the fastgan namespace."""
    names = torch._C._dispatch_get_all_op_names()
    return {name.split("::")[1].split(".")[0] for name in names if name.startswith("fastgan::")}
