"""The outputs of a function and their first and second derivatives, by name."""

import torch

from tests.contract.layouts import contiguous

COTANGENTS = "cotangents"  # what stands for "the cotangents of the outputs" among the names that require a gradient


def derivatives(function, inputs, requires=None, used=None, layout=contiguous, rounding=torch.float64, seed=1):
    """{name: tensor}: the outputs, their gradients, and the gradients of these gradients.

    function(**inputs) returns {name: output}. All cotangents are random, rounded to `rounding`, and depend on the seed
    and the shapes alone. requires: the names of the inputs that require a gradient, and COTANGENTS; default all. used:
    the inputs whose gradients a penalty uses; default all. A derivative that is missing, or of what does not require a
    gradient although it should, is zero.
    """
    generator = torch.Generator().manual_seed(seed)
    requires = [*inputs, COTANGENTS] if requires is None else requires
    leaves = {name: layout(t).detach().requires_grad_(name in requires) for name, t in inputs.items()}
    outputs = function(**leaves)

    def random(t):
        drawn = torch.randn(t.shape, generator=generator, dtype=torch.float64)
        return layout(torch.empty_like(t).copy_(drawn.to(rounding)).detach())

    cotangents = {name: random(t).requires_grad_(COTANGENTS in requires) for name, t in outputs.items()}
    of_first = {name: t for name, t in leaves.items() if t.requires_grad}
    first = gradients(outputs, of_first, cotangents)
    second_cotangents = {name: random(t) for name, t in first.items()}
    of_second = dict(of_first)
    if COTANGENTS in requires:
        of_second |= {f"cotangent of {name}": t for name, t in cotangents.items()}
    penalty = {name: g for name, g in first.items() if used is None or name in used}
    second = gradients(penalty, of_second, second_cotangents)
    return {
        **outputs,
        **{f"grad of {name}": g for name, g in first.items()},
        **{f"second grad of {name}": g for name, g in second.items()},
    }


def gradients(outputs, inputs, cotangents):
    """{name of an input: its gradient}, zeros if there is none."""
    moving = [name for name, t in outputs.items() if t.requires_grad]
    found = [None] * len(inputs)
    if moving and inputs:
        found = torch.autograd.grad(
            [outputs[name] for name in moving],
            list(inputs.values()),
            [cotangents[name] for name in moving],
            create_graph=True,
            allow_unused=True,
        )
    return {name: torch.zeros_like(t) if g is None else g for (name, t), g in zip(inputs.items(), found, strict=True)}
