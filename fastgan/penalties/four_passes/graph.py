"""The critic's autograd graph from its logits to its input: the maps with parameters, and whether four passes do."""

import torch

from fastgan.penalties.four_passes.maps import Map
from fastgan.penalties.four_passes.nodes import JOINT, MAPS, kind, refusal

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class NotEligible(Exception):
    """Says what in the critic the four passes do not take."""


def find_maps(logits, x):
    """(maps, signature) of the graph between logits and x, a leaf. signature: hashable, equal for equal structures.

    Raises NotEligible unless there is one logit a sample, every node on a path from the logits to x is piecewise linear
    in x and keeps samples apart, and every parameter that has a path to the logits has it through a map.
    """
    samples = len(x)
    if logits.dim() < 1 or logits.shape[0] != samples or logits.numel() != samples:
        raise NotEligible(f"the critic gives logits of shape {tuple(logits.shape)} for {samples} samples, not one each")
    if logits.grad_fn is None:
        raise NotEligible("the logits have no graph")
    order, depends = _walk(logits.grad_fn, x)
    if not depends[logits.grad_fn]:
        raise NotEligible("the logits do not depend on the input")
    maps, signature = [], []
    for node in order:
        if depends[node] is not True:
            continue
        name = kind(node)
        outputs = node._input_metadata
        edges = node.next_functions
        inputs, parameters = {}, {}
        for position, (function, output) in enumerate(edges):
            if function is None:
                continue
            if depends[function]:
                inputs[position] = tuple(function._input_metadata[output].shape)
            else:
                parameters[position] = (function, output)
        shapes = [tuple(o.shape) for o in outputs]
        _require(node, name, inputs, shapes, [o.dtype for o in outputs], samples)
        if parameters:
            if name not in MAPS and name not in JOINT and name != "bias_act":
                raise NotEligible(f"{_named(node)} has a parameter that the four passes have no gradient for")
            parameters = {p: _parameter(*edge) for p, edge in parameters.items()}
        if parameters or name == "ConvolutionBackward0":
            at = next(iter(inputs))
            maps.append(Map(node, name, at, parameters))
        signature.append((name, tuple(inputs.items()), tuple(parameters), *shapes, outputs[0].dtype))
    return maps, tuple(signature)


def _require(node, name, inputs, shapes, dtypes, samples):
    if any(dtype not in FLOATING for dtype in dtypes):
        raise NotEligible(f"{_named(node)} gives {dtypes[0]}")
    if name is None:
        raise NotEligible(f"{_named(node)} is a function of its own, not known to be piecewise linear")
    try:
        wrong = refusal(node, name, inputs, shapes, samples)
    except (AttributeError, RuntimeError):  # a node that shows less of itself in this torch
        wrong = "does not show its arguments"
    if wrong is not None:
        raise NotEligible(f"{_named(node)} {wrong}")


def _parameter(function, output):
    about = function._input_metadata[output]
    return torch.autograd.graph.GradientEdge(function, output), tuple(about.shape), about.dtype


def _named(node):
    return f"the critic's node {kind(node) or node.name()}"


def _walk(root, x):
    """(nodes, inputs before those that use them; {node: whether it depends on x}). For the node of x itself: "x"."""
    depends, order, stack = {}, [], [root]
    while stack:
        node = stack[-1]
        if node in depends and depends[node] is not None:
            stack.pop()
            continue
        inputs = [function for function, _ in node.next_functions if function is not None]
        if node not in depends:
            depends[node] = None
            fresh = [function for function in inputs if function not in depends]
            if fresh:
                stack.extend(fresh)
                continue
        stack.pop()
        if inputs:
            depends[node] = any(depends[function] for function in inputs)
        else:
            depends[node] = "x" if getattr(node, "variable", None) is x else False
        order.append(node)
    return order, depends
