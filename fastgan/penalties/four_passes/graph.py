"""The critic's autograd graph from its logits to its input: its steps, and whether four passes do."""

from typing import Any, NamedTuple

import torch

from fastgan.penalties.four_passes.maps import Map
from fastgan.penalties.four_passes.nodes import JOINT, MAPS, kind, refusal

Edge = tuple[Any, int]
"""A node of autograd's graph, and which of the node's outputs."""

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


# With fewer products of numbers a map on a CPU, the two passes saved take less time than the steps in Python. From
# `python -m benchmarks.four_passes --sweep` on one thread; the same for all numbers of threads, so that a run takes one
# route everywhere. Not known for a GPU: there the four passes are always taken.
LEAST_WORK = 5_000_000


class NotEligible(Exception):
    """Says what in the critic the four passes do not take."""


class Step(NamedTuple):
    """A node that the logits and the input both have a path to.

    inputs: {position: edge} of the tensors that depend on the critic's input. last: the edges that no later step reads.
    map: the node as a map with parameters, or None.
    """

    node: Any
    name: str
    inputs: dict[int, Edge]
    last: list[Edge]
    map: Map | None


def find_steps(
    logits: torch.Tensor, x: torch.Tensor, *, least_work: float = 0
) -> tuple[list[Step], tuple, torch.Tensor | None]:
    """(steps, signature, leaf) of the graph between logits and x, a leaf. steps: inputs before those that use them.
    signature: hashable, equal for equal structures. leaf: a parameter that the logits depend on, by which a critic is
    known, or None.

    least_work: products of numbers that a pass has, for each map, on average.

    Raises NotEligible unless there is one logit a sample, every node on a path from the logits to x is piecewise linear
    in x and keeps samples apart, and every parameter that has a path to the logits has it through a map.
    """
    samples = x.shape[0]
    if logits.dim() < 1 or logits.shape[0] != samples or logits.numel() != samples:
        raise NotEligible(f"the critic gives logits of shape {tuple(logits.shape)} for {samples} samples, not one each")
    if logits.grad_fn is None:
        raise NotEligible("the logits have no graph")
    order, depends, leaf = _walk(logits.grad_fn, x)
    if not depends[logits.grad_fn]:
        raise NotEligible("the logits do not depend on the input")
    shapes_of = {}
    steps: list[Step] = []
    signature, work, last = [], [], {}
    for node, edges in order:
        about = node._input_metadata
        shapes_of[node] = shapes = [tuple(output.shape) for output in about]
        inputs, parameters, reads = {}, {}, {}
        for position, edge in enumerate(edges):
            function, output = edge
            if function is None:
                continue
            if depends[function]:
                inputs[position] = shapes_of[function][output] if function in shapes_of else tuple(x.shape)
                reads[position], last[edge] = edge, len(steps)
            else:
                parameters[position] = edge
        name = _require(node, kind(node), inputs, shapes, about, x)
        map = None
        if parameters:
            if name not in MAPS and name not in JOINT and name != "bias_act":
                raise NotEligible(f"{_named(node)} has a parameter that the four passes have no gradient for")
            of_each = {p: _parameter(*edge) for p, edge in parameters.items()}
            map = Map(node, name, next(iter(inputs)), of_each)
            work.append(map.work(next(iter(inputs.values())), shapes[0]))
        steps.append(Step(node, name, reads, [], map))
        signature.append((name, tuple(inputs.items()), tuple(parameters), *shapes, about[0].dtype))
    if sum(work) < least_work * len(work):
        raise NotEligible("the critic is too small for four passes to take less time than autograd's six")
    for edge, step in last.items():
        steps[step].last.append(edge)
    return steps, tuple(signature), leaf


def least_work_on(device: torch.device) -> float:
    """What makes four passes the cheaper route there."""
    return LEAST_WORK if device.type == "cpu" else 0


def _require(node: Any, name: str | None, inputs: dict, shapes: list, about: Any, x: torch.Tensor) -> str:
    if any(output.dtype not in FLOATING or output.device != x.device for output in about):
        raise NotEligible(f"{_named(node)} gives {about[0].dtype} on {about[0].device}")
    if name is None:
        raise NotEligible(f"{_named(node)} is a function of its own, not known to be piecewise linear")
    try:
        wrong = refusal(node, name, inputs, shapes, x.shape[0])
    except (AttributeError, RuntimeError):  # a node that shows less of itself in this torch
        wrong = "does not show its arguments"
    if wrong is not None:
        raise NotEligible(f"{_named(node)} {wrong}")
    return name


def _parameter(function: Any, output: int) -> tuple:
    about = function._input_metadata[output]
    return torch.autograd.graph.GradientEdge(function, output), tuple(about.shape), about.dtype


def _named(node: Any) -> str:
    return f"the critic's node {kind(node) or node.name()}"


def _walk(root: Any, x: torch.Tensor) -> tuple[list, dict[Any, bool], torch.Tensor | None]:
    """([(node, edges)] of the nodes that depend on x, inputs before those that use them; {node: whether it does}; a
    leaf that is not x)."""
    leaf = None
    depends, order, stack = {}, [], [(root, root.next_functions)]
    while stack:
        node, edges = stack[-1]
        if node not in depends:
            depends[node] = False  # a graph has no circle: nothing reads this before it is known
            fresh = [f for f, _ in edges if f is not None and f not in depends]
            if fresh:
                stack.extend((f, f.next_functions) for f in fresh)
                continue
        stack.pop()
        if not edges:
            variable = getattr(node, "variable", None)
            depends[node] = variable is x
            leaf = leaf if variable is None or variable is x else variable
        elif not depends[node] and any(f is not None and depends[f] for f, _ in edges):
            depends[node] = True
            order.append((node, edges))
    return order, depends, leaf
