"""How an op gets its derivatives: right to the order it supports, an exception beyond it.

`torch.library.register_autograd` alone leaves holes through which a wrong derivative slips silently: a tangent of
forward-mode AD is dropped, and an op without a formula returns a constant. Here both raise, and public functions send
forward mode and torch.func to the op's differentiable reference.

An eager call does not need the dispatcher: it enters the autograd Function directly, and each order's backward enters
the next order's Function. The registered op serves every other call: torch.compile, opcheck, tensor subclasses,
dispatch modes, and torch.ops.fastgan.*.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad
from torch.compiler import is_compiling

from fastgan._library import CUDA_PROBLEM
from fastgan.ops._torch_private import (
    any_requires_grad,
    bare,
    below_autograd,
    cpu_kernel,
    dispatch_modes,
    forward_mode,
    forward_mode_is_active,
    functorch_is_active,
    give_engine_the_backward,
    is_batch,
    is_tracing,
    is_tracing_for_onnx,
    profiler_is_on,
)
from fastgan.ops._triton import is_on_gpu, triton_installed, triton_kernel

Function = Callable[..., Any]  # an op as an eager call enters it
Formula = tuple[Callable[..., None], Callable[..., Any]]  # (save, backward)


def register(
    family: str, *formulas: Formula, triton: bool = False, check: Callable[..., None] | None = None
) -> tuple[Callable[..., Function | None], Function, Function]:
    """Registers the derivatives of fastgan::FAMILY and returns (route, backward, double_backward).

    formulas: (save, backward) of the forward and of the backward, as torch.library.register_autograd takes them:
    save(ctx, inputs, output) and backward(ctx, *grads). The double backward has no formula: a third order raises.
    Tensor lists arrive and leave as lists; all lists of a call have the same length. triton: fastgan/kernels/FAMILY.py
    holds the CUDA kernels. check(*args): raises for a call of the forward that came through the dispatcher, as those of
    a compiled graph do, and must not run.

    route(*tensors) returns what serves a call of the public function: a function that enters the autograd Function
    directly, the registered op, or None: the reference. The other two are the orders that a backward calls.
    """
    cuda_kernels = triton_installed if triton else _cuda_library_loaded
    names = (family, f"{family}_backward", f"{family}_double_backward")
    formulas = (*formulas, (_save_nothing, _no_further_derivative(names[-1])))
    (forward, _), (_, backward), (_, double_backward) = [
        _differentiable(*how, triton) for how in zip(names, formulas, (check, None, None), strict=True)
    ]
    op = getattr(torch.ops.fastgan, family).default

    def route(*tensors):
        if is_eager(tensors):
            x = tensors[0][0] if type(tensors[0]) is list else tensors[0]
            if getattr(x, "is_cpu", True) or (x.is_cuda and cuda_kernels()):  # no tensor: the op says what is wrong
                return forward
        return None if needs_reference(*tensors, cuda_kernels=cuda_kernels) else op

    return route, backward, double_backward


def only_wanted(tensors: Iterable[torch.Tensor | None], mask: Iterable[bool]) -> list[Any]:
    """None in the place of an output that is not wanted, which has no elements."""
    return [t if want else None for t, want in zip(tensors, mask)]  # noqa: B905 (strict costs time at every call)


def _differentiable(name, formula, check, triton):
    """fastgan::NAME with its derivative: registered, and as the functions that eager calls and backwards take."""
    op, (save, backward) = getattr(torch.ops.fastgan, name).default, formula
    types = [str(a.type) for a in op._schema.arguments]
    a_tensor = types.index("List[Tensor]" if "List[Tensor]" in types else "Tensor")
    tensors = next((i for i, kind in enumerate(types) if "Tensor" not in kind), len(types))
    elsewhere: Any
    kernel_on_gpu, elsewhere = triton_kernel(name, a_tensor) if triton else (None, None)
    if below_autograd is None:
        torch.library.register_autograd(f"fastgan::{name}", backward, setup_context=save, lib=_library)
        return op, op
    lists = types.count("List[Tensor]")
    kind = _list_function(lists, len(op._schema.returns)) if lists else _tensor_function
    call = bare(op)

    def run(*args):
        with below_autograd():
            return call(*args)

    on_cpu = None if lists else cpu_kernel(op)

    def run_eagerly(*args):
        """Past the dispatcher to the kernel, for plain tensors, if no profiler wants to see the op."""
        x = args[a_tensor]
        if not profiler_is_on():
            if kernel_on_gpu and is_on_gpu(x):
                if x.device.index == torch.cuda.current_device():
                    return kernel_on_gpu().wanted(*args)
                return elsewhere(*args)
            if on_cpu and x.is_cpu:
                return on_cpu(*args)
        with below_autograd():
            return call(*args)

    apply, apply_eagerly = (kind(name, how, save, backward) for how in (run, run_eagerly))

    def kernel(_keyset, *args):
        if check is not None:
            check(*args)
        return apply(*args) if torch.is_grad_enabled() and any_requires_grad(*_flat(args)) else run(*args)

    def eager(*args):
        """Of a call that nothing but autograd watches."""
        if torch.is_grad_enabled() and any_requires_grad(*(_flat(args) if lists else args[:tensors])):
            return apply_eagerly(*args)
        return run_eagerly(*args)

    def derivative(*args):
        """Of a backward's call: a mode may have been opened, or a subclass may come, after the forward."""
        if (
            functorch_is_active()
            or dispatch_modes()
            or forward_mode._current_level >= 0
            or not _are_plain(args if lists else args[:tensors])
        ):
            return op(*args)
        if torch.is_grad_enabled() and any_requires_grad(*(_flat(args) if lists else args[:tensors])):
            return apply_eagerly(*args)
        return run_eagerly(*args)

    _library.impl(name, kernel, "Autograd", with_keyset=True)
    return eager, derivative


# --- who watches a call


_PLAIN = {torch.Tensor, torch.nn.Parameter, type(None), int, float, bool, list, tuple}


def _are_plain(args):
    """Whether no tensor is of a subclass, as what a compiler traces with is, or stands for more than its memory holds.

    Tensor lists go through the dispatcher, which sees the second.
    """
    for a in args:
        if type(a) is torch.Tensor or type(a) is torch.nn.Parameter:
            if a.is_neg() or is_batch(a):  # as z.conj().imag is; as the cotangents of is_grads_batched=True are
                return False
        elif type(a) is list:
            if not _PLAIN.issuperset(map(type, a)):
                return False
        elif type(a) not in _PLAIN:
            return False
    return True


def is_eager(args: Sequence[Any]) -> bool:
    """Whether plain tensors come and nothing but autograd watches: no compiler, transform, forward mode or mode."""
    return not (
        is_compiling()
        or functorch_is_active()
        or dispatch_modes()
        or forward_mode._current_level >= 0
        or is_tracing()
        or not _are_plain(args)
    )


def _tensors(args: Iterable[Any]) -> Iterator[torch.Tensor]:
    for arg in args:
        if isinstance(arg, torch.Tensor):
            yield arg
        elif isinstance(arg, (list, tuple)):
            yield from _tensors(arg)


def has_tangent(*args: Any) -> bool:
    """Whether a tensor in args carries a forward-mode tangent."""
    if not forward_mode_is_active():
        return False
    return any(forward_ad.unpack_dual(t).tangent is not None for t in _tensors(args))


def _cuda_library_loaded() -> bool:
    return CUDA_PROBLEM is None


def needs_reference(*args: Any, cuda_kernels: Callable[[], bool] = _cuda_library_loaded) -> bool:
    """Whether the compiled op cannot serve this call: forward-mode AD, torch.func, a device without kernels, or a trace
    by torch.jit or for ONNX, which must run without fastgan.

    The tensors in args are on one device (the op checks that). cuda_kernels() says whether that may be a CUDA device.
    """
    device = next((t.device.type for t in _tensors(args)), "cpu")
    if device not in ("cpu", "meta") and not (device == "cuda" and cuda_kernels()):
        return True
    if is_tracing_for_onnx():
        return True
    if is_compiling():  # a transform of the whole graph is the compiler's
        return False
    return is_tracing() or functorch_is_active() or has_tangent(*args)


# --- registration


class _Guarded(torch.library.Library):
    """A Library whose autograd kernels refuse forward-mode tangents instead of dropping them."""

    def impl(self, op_name: Any, fn: Any, dispatch_key: str = "", **kwargs: Any) -> None:
        def guarded(keyset, *args, **keyword_args):
            if has_tangent(*args):
                raise NotImplementedError(
                    f"torch.ops.fastgan.{op_name.split('::')[-1]} has no forward-mode derivative; call the public"
                    " function in fastgan.ops, which switches to its differentiable reference"
                )
            return fn(keyset, *args, **keyword_args)

        super().impl(op_name, guarded, dispatch_key, **kwargs)


_library = _Guarded("fastgan", "FRAGMENT")


def _save_nothing(ctx, inputs, output):
    pass


def _no_further_derivative(name):
    def backward(ctx, *grads):
        raise NotImplementedError(
            f"fastgan::{name} has no further derivative; for a higher order use the op's reference in fastgan.ops"
        )

    return backward


def _tensor_function(name, run, save, backward):
    """run(*args) with its derivative; without torch.library's wrapper, which fills in defaults at every call."""

    class Formula(torch.autograd.Function):
        op = name  # by which a walk through an autograd graph knows the node

        @staticmethod
        def forward(ctx, *args):
            output = run(*args)
            save(ctx, args, output)
            return output

    Formula.__name__, Formula.backward = f"{name}_formula", staticmethod(backward)
    give_engine_the_backward(Formula)
    return Formula.apply


def _flat(args):
    return [t for a in args if type(a) is list for t in a] if type(args[0]) is list else args


def _split(tensors, count):
    n = len(tensors) // count
    return tuple([list(tensors[i * n : (i + 1) * n]) for i in range(count)])


def _list_function(lists, outputs):
    """As _tensor_function, for an op on `lists` tensor lists of equal length that returns `outputs` lists.

    The lists are flattened here; torch.library does that for nested structures of every kind, which takes as long as a
    small network's forward.
    """

    def list_function(name, run, save, backward):
        class Formula(torch.autograd.Function):
            @staticmethod
            def forward(ctx, others, *tensors):
                inputs = (*_split(tensors, lists), *others)
                output = run(*inputs)
                save(ctx, inputs, output)
                return tuple([t for tensors in output for t in tensors] if outputs > 1 else output)

        def flat_backward(ctx, *grads):
            results = backward(ctx, *_split(grads, outputs))[:lists]
            return None, *[g for grads in results for g in grads]

        Formula.__name__, Formula.backward = f"{name}_formula", staticmethod(flat_backward)
        give_engine_the_backward(Formula)

        def apply(*args):
            if any(len(a) != len(args[0]) for a in args[:lists]):
                return run(*args)  # which raises
            results = _split(Formula.apply(args[lists:], *_flat(args[:lists])), outputs)
            return results if outputs > 1 else results[0]

        return apply

    return list_function
