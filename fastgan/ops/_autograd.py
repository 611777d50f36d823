"""How an op gets its derivatives: right to the order it supports, an exception beyond it.

`torch.library.register_autograd` alone leaves three holes through which a wrong derivative slips silently: a tangent of
forward-mode AD is dropped, an op without a formula returns a constant, and torch.func transforms fail half-way. Here the first
two raise, and public functions send all forward-mode and torch.func uses to the op's reference (`needs_reference`).
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


def needs_reference(*args):
    """Whether the compiled op cannot serve this call: forward-mode AD, a torch.func transform, or a device without kernels."""
    if any(not has_kernels(t.device) for t in _tensors(args)):
        return True
    if torch.compiler.is_compiling():  # where a transform of the whole graph is not fastgan's to see
        return False
    return torch._C._are_functorch_transforms_active() or has_tangent(*args)


def has_kernels(device):
    return device.type in ("cpu", "meta") or (device.type == "cuda" and CUDA_PROBLEM is None)


class _Guarded(torch.library.Library):
    """A Library whose autograd kernels refuse forward-mode tangents instead of dropping them."""

    def impl(self, op_name, fn, dispatch_key="", **kwargs):
        def guarded(keyset, *args, **keyword_args):
            if has_tangent(*args):
                raise NotImplementedError(
                    f"torch.ops.{op_name} has no forward-mode derivative; call the public function of fastgan.ops, which"
                    " switches to its differentiable reference"
                )
            return fn(keyset, *args, **keyword_args)

        super().impl(op_name, guarded, dispatch_key, **kwargs)


_library = _Guarded("fastgan", "FRAGMENT")


def register(name, backward, setup_context):
    """The derivative of op fastgan::name: `backward(ctx, *grads)`, as torch.library.register_autograd takes it."""
    torch.library.register_autograd(f"fastgan::{name}", backward, setup_context=setup_context, lib=_library)


def register_last_order(name):
    """fastgan::name is the highest derivative there is; going further raises."""

    def backward(ctx, *grads):
        raise NotImplementedError(
            f"fastgan::{name} has no further derivative; for a higher order use the op's reference in fastgan.ops"
        )

    register(name, backward, lambda ctx, inputs, output: None)
