"""Zeros for the parameters behind a function whose second derivative is zero, as plain torch gives them."""

import torch


def with_zeros(dx: torch.Tensor, behind: torch.autograd.graph.Node | None) -> torch.Tensor:
    """dx, a first derivative with a graph, such that the vectors (biases) behind its function get zeros from it.

    behind: the node that made the function's input. A gradient of None would leave a bias without a gradient, and an
    optimiser would then pass over the bias. Zeros through the graph itself would cost a pass of every layer; here they
    cost the size of the vectors. The search ends at ops of fastgan, which see to what is behind them.
    """
    leaves = _vectors(behind) if dx.requires_grad and type(dx) is torch.Tensor else ()
    return _Zeros.apply(dx, *leaves) if leaves else dx


class _Zeros(torch.autograd.Function):
    @staticmethod
    def forward(ctx, dx, *leaves):
        ctx.set_materialize_grads(False)
        ctx.like = [(leaf.shape, {"dtype": leaf.dtype, "device": leaf.device}) for leaf in leaves]
        return dx.view_as(dx)

    @staticmethod
    def backward(ctx, h):
        if h is None:
            return (None,) * (1 + len(ctx.like))
        needed = ctx.needs_input_grad[1:]
        zeros = [torch.zeros(shape, **kind) if n else None for n, (shape, kind) in zip(needed, ctx.like, strict=True)]
        return h, *zeros


def _vectors(node):
    """The parameters with one extent other than 1 that a graph leads to."""
    found, waiting, seen = [], [node], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or hasattr(type(node), "op"):
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is None:
            waiting.extend(before for before, _ in node.next_functions)
        elif leaf.numel() == max(leaf.shape, default=1) and type(leaf) in (torch.Tensor, torch.nn.Parameter):
            found.append(leaf)
    return found
