"""The critic's gradient with respect to its input, as a differentiable tensor."""

import torch


def input_gradient(logits, x):
    """d sum(logits) / dx (B, ...), with a graph where grad mode is on. x requires grad; logits (B,) or (B, ...).

    Samples are taken to be independent: row i is then the gradient of sample i's logit, of the sum of its logits where
    it has several (patches). Taken of the logits as they are, before any loss scaling, and outside of autocast.
    Errors: ValueError where the logits do not depend on x.
    """
    gradient = None
    if logits.requires_grad:
        with torch.autocast(x.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True, allow_unused=True)
    check_dependence(gradient)
    return gradient


def check_dependence(gradient):
    if gradient is None:
        raise ValueError(
            "critic must depend on its input in a differentiable way for a gradient penalty, but its output has no"
            " gradient with respect to x: is there a detach(), a no_grad() or a constant in it?"
        )
