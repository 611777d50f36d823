"""The critic's gradient with respect to its input, as a differentiable tensor."""

from contextlib import AbstractContextManager, nullcontext

import torch


def without_autocast(x: torch.Tensor) -> AbstractContextManager:
    """A context without autocast on x's device; nothing when autocast is off, since entering costs host time."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def input_gradient(logits: torch.Tensor, x: torch.Tensor, allow_coupled: bool = False) -> torch.Tensor:
    """d sum(logits) / dx (B, ...), with a graph when grad mode is on. x requires grad; logits (B,) or (B, ...).

    Samples are taken to be independent: row i is then the gradient of sample i's logit, of the sum of its logits if
    it has several (patches). Taken of the logits as they are, before any loss scaling, and outside of autocast.
    Errors: ValueError if the logits do not depend on x; if they are not as many as the samples, unless allow_coupled.
    """
    if not allow_coupled and logits.shape[:1] != x.shape[:1]:
        raise ValueError(
            f"a gradient penalty takes the norm of each sample's gradient, but the critic returns logits"
            f" {tuple(logits.shape)} for {len(x)} samples. For a critic that joins several samples to one: give the"
            " penalty packs and a critic of packs (fastgan.nn.pack.pack, fastgan.nn.Pack); or pass allow_coupled=True"
            " to mean the norm of each row of the gradient"
        )
    gradient: torch.Tensor | None = None
    if logits.requires_grad:
        with without_autocast(x):
            (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True, allow_unused=True)
    return check_dependence(gradient)


def check_dependence(gradient: torch.Tensor | None) -> torch.Tensor:
    """The gradient. Errors: ValueError for None, the gradient of a critic that does not depend on its input."""
    if gradient is None:
        raise ValueError(
            "critic must depend on its input in a differentiable way for a gradient penalty, but its output has no"
            " gradient with respect to x: is there a detach(), a no_grad() or a constant in it?"
        )
    return gradient
