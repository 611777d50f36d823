"""How an op gets its derivatives: right to the order it supports, an exception beyond it.

`torch.library.register_autograd` alone leaves holes through which a wrong derivative slips silently: a tangent of
forward-mode AD is dropped, and an op without a formula returns a constant. Here both raise, and public functions send
forward mode and torch.func to the op's differentiable reference.

An eager call does not need the dispatcher: `Order` enters the autograd Function directly, and each order's backward
enters the next order's Function. The registered op serves every other call: torch.compile, opcheck, tensor subclasses,
dispatch modes, and torch.ops.fastgan.*.
"""

import torch
from torch.autograd import forward_ad

from fastgan._library import CUDA_PROBLEM
from fastgan.ops import _torch_private as private
from fastgan.ops._triton import triton_installed, triton_kernels


def register(family, *formulas, triton=False):
    """The orders of an op family, callables (forward, backward, double backward): fastgan::FAMILY and its derivatives.

    formulas: (save, backward) of the forward and of the backward, as torch.library.register_autograd takes them:
    save(ctx, inputs, output) and backward(ctx, *grads). The double backward has no formula: a third order raises.
    Tensor lists arrive and leave as lists; all lists of a call have the same length. triton: fastgan/kernels/FAMILY.py
    holds the CUDA kernels.
    """
    kernels = triton_kernels(family) if triton else (None, None, None)
    names = (family, f"{family}_backward", f"{family}_double_backward")
    formulas = (*formulas, (_save_nothing, _no_further_derivative(names[-1])))
    cuda_kernels = triton_installed if triton else _cuda_library_loaded
    return [Order(*order, cuda_kernels) for order in zip(names, formulas, kernels, strict=True)]


def wanted(ctx, count):
    """Which gradients of x and its count - 1 parameters the backward pass that runs now uses.

    ctx.needs_input_grad says what the graph could use. As torch's own ops do, this leaves out the parameters' gradients
    when the pass does not use them: the inner gradient of a penalty does not.
    """
    needs = list(ctx.needs_input_grad[:count])
    if needs[0]:
        _of_x, *nodes = [node for node, _ in ctx.next_functions if node is not None]  # of what requires grad, in order
        for i in range(count - 1, 0, -1):
            if needs[i]:
                needs[i] = private.engine_executes(nodes.pop())
    return needs


def only_wanted(tensors, mask):
    """None in the place of an output that is not wanted, which has no elements."""
    return tuple([t if want else None for t, want in zip(tensors, mask, strict=True)])


class Order:
    """One order of an op family, e.g. fastgan::bias_act_backward, and its derivative."""

    def __init__(self, name, formula, triton_kernel, cuda_kernels):
        self.op, self.cuda_kernels = getattr(torch.ops.fastgan, name).default, cuda_kernels
        save, backward = formula
        arguments, returns = self.op._schema.arguments, self.op._schema.returns
        lists = sum(str(a.type) == "List[Tensor]" for a in arguments)
        if private.below_autograd is None:
            torch.library.register_autograd(f"fastgan::{name}", backward, setup_context=save, lib=_library)
            self.eager = self.op
            return

        def below_autograd(*args):
            with private.below_autograd():
                return self.op(*args)

        def on_device(*args):
            """Past the dispatcher to a Triton kernel."""
            device = next(a for a in args if isinstance(a, torch.Tensor)).device.type
            return triton_kernel(*args) if device == "cuda" else below_autograd(*args)

        as_function = _list_function(lists, len(returns)) if lists else _tensor_function
        kernel = as_function(name, below_autograd, save, backward)
        self.eager = as_function(name, on_device, save, backward) if triton_kernel else kernel
        _library.impl(name, lambda _keyset, *args: kernel(*args), "Autograd", with_keyset=True)

    def __call__(self, *args):
        """The order that a backward calls."""
        return (self.eager if is_eager(args) else self.op)(*args)

    def route(self, *tensors):
        """What serves a call of the public function: the eager path, the registered op, or None: the reference."""
        if is_eager(tensors):
            device = next((t for t in tensors if isinstance(t, torch.Tensor)), None)
            if device is None or device.is_cpu or (device.is_cuda and self.cuda_kernels()):
                return self.eager
            return self.op if device.is_meta else None
        return None if needs_reference(*tensors, cuda_kernels=self.cuda_kernels) else self.op


# --- who watches a call


_PLAIN = {torch.Tensor, torch.nn.Parameter, type(None), int, float, bool}


def is_eager(args):
    """Whether plain tensors come and nothing but autograd watches: no compiler, transform, forward mode or mode."""
    if (
        torch.compiler.is_compiling()
        or private.functorch_is_active()
        or private.forward_mode_is_active()
        or private.dispatch_modes()
        or private.is_tracing()
    ):
        return False
    for a in args:
        kind = type(a)
        if kind not in _PLAIN and not (kind in (list, tuple) and all([type(t) in _PLAIN for t in a])):
            return False
    return True


def _tensors(args):
    for arg in args:
        if isinstance(arg, torch.Tensor):
            yield arg
        elif isinstance(arg, (list, tuple)):
            yield from _tensors(arg)


def has_tangent(*args):
    """Whether a tensor in args carries a forward-mode tangent."""
    if not private.forward_mode_is_active():
        return False
    return any(forward_ad.unpack_dual(t).tangent is not None for t in _tensors(args))


def _cuda_library_loaded():
    return CUDA_PROBLEM is None


def needs_reference(*args, cuda_kernels=_cuda_library_loaded):
    """Whether the compiled op cannot serve this call: forward-mode AD, torch.func, or a device without kernels.

    The tensors in args are on one device (the op checks that). cuda_kernels() says whether that may be a CUDA device.
    """
    device = next((t.device.type for t in _tensors(args)), "cpu")
    if device not in ("cpu", "meta") and not (device == "cuda" and cuda_kernels()):
        return True
    if torch.compiler.is_compiling():  # a transform of the whole graph is the compiler's
        return False
    return private.functorch_is_active() or has_tangent(*args)


# --- registration


class _Guarded(torch.library.Library):
    """A Library whose autograd kernels refuse forward-mode tangents instead of dropping them."""

    def impl(self, op_name, fn, dispatch_key="", **kwargs):
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
        @staticmethod
        def forward(ctx, *args):
            output = run(*args)
            save(ctx, args, output)
            return output

    Formula.__name__, Formula.backward = f"{name}_formula", staticmethod(backward)

    def kernel(*args):
        if torch.is_grad_enabled() and private.any_requires_grad(*args):
            return Formula.apply(*args)
        return run(*args)

    return kernel


def _list_function(lists, outputs):
    """As _tensor_function, for an op on `lists` tensor lists of equal length that returns `outputs` lists.

    The lists are flattened here; torch.library does that for nested structures of every kind, which takes as long as a
    small network's forward.
    """

    def flat(nested):
        return [t for tensors in nested for t in tensors]

    def split(tensors, count):
        n = len(tensors) // count
        return tuple([list(tensors[i * n : (i + 1) * n]) for i in range(count)])

    def as_function(name, run, save, backward):
        class Formula(torch.autograd.Function):
            @staticmethod
            def forward(ctx, others, *tensors):
                inputs = (*split(tensors, lists), *others)
                output = run(*inputs)
                save(ctx, inputs, output)
                return tuple(flat(output if outputs > 1 else [output]))

        def flat_backward(ctx, *grads):
            grads = backward(ctx, *split(grads, outputs))[:lists]
            n = len(ctx.needs_input_grad[1:]) // lists
            return None, *flat([[None] * n if g is None else g for g in grads])

        Formula.__name__, Formula.backward = f"{name}_formula", staticmethod(flat_backward)

        def kernel(*args):
            tensors = flat(args[:lists])
            if not (torch.is_grad_enabled() and private.any_requires_grad(*tensors)):
                return run(*args)
            if any(len(a) != len(args[0]) for a in args[:lists]):
                return run(*args)  # which raises
            results = split(Formula.apply(args[lists:], *tensors), outputs)
            return results if outputs > 1 else results[0]

        return kernel

    return as_function
