"""Launches that repeat, past Triton's binder.

At every call Triton works out again, from each argument's type, value and alignment, which compiled kernel serves it.
That takes longer than a small layer's kernel. In training the same layer comes again with the same shapes, so `launch`
keeps the compiled kernel by what that choice depends on.
"""

import triton

# From here on a compiled kernel takes all arguments of the function, constants too.
REPEATS = tuple(int(n) for n in triton.__version__.split(".")[:2]) >= (3, 5)
_compiled = {}


def launch(kernel, grid, tensors, floats, ints, constants, warps, stages=3):
    """kernel[grid](*tensors, *floats, *ints, **constants): in this order every kernel declares its parameters."""
    # Of ints Triton looks at the values (1, multiples of 16), of pointers at the alignment, of floats at nothing.
    key = (
        id(kernel),
        tensors[0].device,
        warps,
        stages,
        ints,
        tuple(constants.values()),
        tuple([(t.dtype, t.data_ptr() & 15 == 0) for t in tensors]),
    )
    known = _compiled.get(key)
    if known is not None:
        compiled, ordered = known
        compiled[grid](*tensors, *floats, *ints, *ordered)
        return
    compiled = kernel[grid](*tensors, *floats, *ints, **constants, num_warps=warps, num_stages=stages)
    if REPEATS and compiled is not None:  # the interpreter gives back nothing
        names = kernel.arg_names[len(tensors) + len(floats) + len(ints) :]
        _compiled[key] = compiled, tuple(constants[name] for name in names)
