"""How an op gets its derivatives: right to the order it supports, an exception beyond it.

`torch.library.register_autograd` alone leaves holes through which a wrong derivative slips silently: a tangent of
forward-mode AD is dropped, and an op without a formula returns a constant. Here both raise, and public functions send
forward mode and torch.func to the op's differentiable reference (`needs_reference`).
"""

import torch
from torch.autograd import forward_ad

from fastgan._library import CUDA_PROBLEM


def _tensors(args):
    for arg in args:
        if isinstance(arg, torch.Tensor):
            yield arg
        elif isinstance(arg, (list, tuple)):
            yield from _tensors(arg)


def has_tangent(*args):
    """Whether a tensor in args carries a forward-mode tangent."""
    if forward_ad._current_level < 0:
        return False
    return any(forward_ad.unpack_dual(t).tangent is not None for t in _tensors(args))


def cuda_library_loaded():
    return CUDA_PROBLEM is None


def needs_reference(*args, cuda_kernels=cuda_library_loaded):
    """Whether the compiled op cannot serve this call: forward-mode AD, torch.func, or a device without kernels.

    The tensors in args are on one device (the op checks that). cuda_kernels() says whether that may be a CUDA device.
    """
    device = next((t.device.type for t in _tensors(args)), "cpu")
    if device not in ("cpu", "meta") and not (device == "cuda" and cuda_kernels()):
        return True
    if torch.compiler.is_compiling():  # where a transform of the whole graph is not fastgan's to see
        return False
    return torch._C._are_functorch_transforms_active() or has_tangent(*args)


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


def register(name, backward, setup_context):
    """The derivative of fastgan::name, an op on tensors: setup_context(ctx, inputs, output) and backward(ctx, *grads).

    They are what torch.library.register_autograd takes. Its wrapper fills in the schema's defaults, of which ours have
    none, at every call, which takes longer than a small layer; this one does not.
    """
    op = getattr(torch.ops.fastgan, name).default

    class Formula(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *args):
            with torch._C._AutoDispatchBelowAutograd():
                output = op(*args)
            setup_context(ctx, args, output)
            return output

    Formula.__name__, Formula.backward = f"{name}_formula", staticmethod(backward)
    Formula.op = name  # by which a walk through an autograd graph knows it

    def kernel(_keyset, *args):
        if torch._C.is_grad_enabled() and torch._C._any_requires_grad(*args):
            return Formula.apply(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return op(*args)

    _library.impl(name, kernel, "Autograd", with_keyset=True)


class ListFormula:
    """The derivative of an op on lists of equal length (a whole network at once): `backward(saved, *grads)`.

    The op takes `inputs` tensor lists followed by non-tensor arguments, and returns `outputs` lists. `save` picks what
    the derivative needs, `save(inputs, outputs) -> list of lists`, which arrives as `saved`; `grads` are lists with
    None for what is undefined; `constants` counts the trailing outputs that carry no gradient.

    Does what torch.library.register_autograd does, without flattening nested structures in Python on every call, which
    takes as long as a small network's forward.
    """

    def __init__(self, name, inputs, outputs, save, backward, constants=0):
        self.op, self.inputs, self.outputs = getattr(torch.ops.fastgan, name).default, inputs, outputs
        self.save, self.backward, self.constants = save, backward, constants
        _library.impl(name, self.kernel, "Autograd", with_keyset=True)

    def __call__(self, *args):
        """The op, without the dispatcher's detour through which every tensor goes to C++ and back."""
        if (
            torch.compiler.is_compiling()
            or torch._C._are_functorch_transforms_active()
            or not _fits(args, self.inputs)
            or has_tangent(*args)
        ):
            return self.op(*args)
        return self.kernel(None, *args)

    def kernel(self, _keyset, *args):
        lists, others = args[: self.inputs], args[self.inputs :]
        flat = [t for tensors in lists for t in tensors]
        if not (torch.is_grad_enabled() and any(t.requires_grad for t in flat)):
            with torch._C._AutoDispatchBelowAutograd():
                return self.op(*args)
        constants = []
        results = _chunks(_ListFunction.apply(self, others, constants, *flat), self.outputs - self.constants)
        return (*results, *constants) if self.outputs > 1 else results[0]


def _fits(args, inputs):
    """Whether the lists are plain tensors, as many in each; anything else is for the op's schema to judge."""
    n = len(args[0])
    return all(len(a) == n and all(type(t) in _PLAIN for t in a) for a in args[:inputs])


_PLAIN = (torch.Tensor, torch.nn.Parameter)


def _chunks(flat, count):
    n = len(flat) // count
    return tuple(list(flat[i * n : (i + 1) * n]) for i in range(count))


class _ListFunction(torch.autograd.Function):
    """Returns what carries a gradient; the outputs without one go into the list `constants`, past autograd."""

    @staticmethod
    def forward(ctx, formula, others, constants, *flat):
        inputs = _chunks(flat, formula.inputs)
        with torch._C._AutoDispatchBelowAutograd():
            outputs = formula.op(*inputs, *others)
        outputs = outputs if formula.outputs > 1 else (outputs,)
        saved = formula.save(inputs, outputs)
        ctx.formula, ctx.saved_lists = formula, len(saved)
        ctx.save_for_backward(*(t for tensors in saved for t in tensors))
        ctx.set_materialize_grads(False)
        results = formula.outputs - formula.constants
        constants.extend(outputs[results:])
        return tuple(t for tensors in outputs[:results] for t in tensors)

    @staticmethod
    def backward(ctx, *grads):
        saved = _chunks(ctx.saved_tensors, ctx.saved_lists)
        grads = _chunks(grads, ctx.formula.outputs - ctx.formula.constants)
        results = ctx.formula.backward(saved, *grads)
        return None, None, None, *(g for tensors in results for g in tensors)


def register_last_order(name):
    """fastgan::name is the highest derivative there is; going further raises."""

    def backward(ctx, *grads):
        raise NotImplementedError(
            f"fastgan::{name} has no further derivative; for a higher order use the op's reference in fastgan.ops"
        )

    torch.library.register_autograd(f"fastgan::{name}", backward, lib=_library)
