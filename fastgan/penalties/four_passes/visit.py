"""One forward of the critic at a batch, and the passes that follow from it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from fastgan.penalties.four_passes.graph import NotEligible, find_maps
from fastgan.penalties.four_passes.maps import Map, rows
from fastgan.penalties.gradient.input_gradient import check_dependence

CHECKED = WeakIdKeyDictionary()  # a critic's parameter -> signatures of the graphs that were checked
MOST_CHECKED = 256
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}  # of a sample's norm


class Record:
    """What a map's parameters need: delta, and either the tangent at its input or nothing more."""

    def __init__(self, map: Map, visit: "Visit") -> None:
        self.map, self.visit = map, visit
        self.delta: Any = None
        self.x_gradient: Any = None

    def after_data_gradient(
        self, x_gradients: Sequence[torch.Tensor | None], deltas: Sequence[torch.Tensor | None]
    ) -> tuple[torch.Tensor | None, ...] | None:
        """The post-hook of the map's node in the data pass."""
        (delta, *_), x_gradient = deltas, x_gradients[self.map.at]
        if delta is None or x_gradient is None:
            return None
        if self.map.name == "bias_act":
            self.x_gradient = x_gradient.detach()
        elif self.map.parameters:
            self.delta = delta.detach()
        if not self.visit.second_order:
            self.finish(None)
            return None
        if self.map.name != "ConvolutionBackward0":
            if self.map.weights:
                x_gradient.register_hook(self.finish)
            else:
                self.visit.waiting.append(self)
            return None
        # torch's derivative of a data gradient computes a weight gradient as well, wanted or not: pass by it.
        replaced = _DataGradient.apply(delta, x_gradient.detach(), self)
        return tuple(replaced if p == self.map.at else g for p, g in enumerate(x_gradients))

    def finish(self, tangent: torch.Tensor | None) -> None:
        """With the tangent at the map's input, everything is there."""
        if not self.map.parameters:
            return
        per_sample, a = self.visit.per_sample, self.map.input()
        delta = self.delta
        with torch.no_grad():
            if a is not None:
                a = _weighted(a, per_sample, tangent)
            found = self.map.gradients(delta, self.x_gradient, per_sample, a)
        self.visit.gradients.extend(found)
        self.delta = self.x_gradient = None


def _weighted(a, per_sample, tangent):
    """l'_i a_i + t_i"""
    if per_sample is None:
        return tangent
    if tangent is None:
        return a * rows(per_sample, a)
    return torch.addcmul(tangent.to(a.dtype), a, rows(per_sample, a))


class _DataGradient(torch.autograd.Function):
    """W^T delta, computed already, as a function of delta: its derivative applies W, and hands t to the record."""

    @staticmethod
    def forward(ctx, delta, x_gradient, record):
        ctx.record = record
        return x_gradient

    @staticmethod
    def backward(ctx, tangent):
        record = ctx.record
        record.finish(tangent)
        return record.map.again(tangent), None, None


class Visit:
    """The logits and the input gradient at a leaf x, as leaves: the loss and the penalties are functions of them.

    second_order: with the graph for a penalty on the input gradient. least_work: as `find_maps` takes it.
    """

    def __init__(self, critic_logits: torch.Tensor, x: torch.Tensor, second_order: bool, least_work: int = 0) -> None:
        maps, signature, leaf = find_maps(critic_logits, x, least_work=least_work)
        self.x, self.second_order = x, second_order
        self.maps: Any = maps  # until `finish`, as are the true logits
        self.true_logits: Any = critic_logits
        self.per_sample: torch.Tensor | None = None
        self.gradients: list[tuple[Any, torch.Tensor]] = []
        self.waiting: list[Record] = []
        self._require_apart(set() if leaf is None else CHECKED.setdefault(leaf, set()), signature)
        self.logits = critic_logits.detach().requires_grad_()
        self.input_gradient: Any = None  # and the seed: from the data pass on
        self.seed: Any = None
        if second_order:
            self.gradient = self._data_pass().detach().requires_grad_()

    def leaves(self) -> tuple[torch.Tensor, ...]:
        """What the loss and the penalties are differentiated with respect to, for `finish`."""
        return (self.logits, self.gradient) if self.second_order else (self.logits,)

    def finish(
        self, of_logits: torch.Tensor | None, of_gradient: torch.Tensor | None = None
    ) -> list[tuple[Any, torch.Tensor]]:
        """[(edge, gradient)] of the critic's parameters, from the derivatives with respect to the leaves. None for
        zero. Frees what the passes kept."""
        if of_logits is not None:
            self.per_sample = of_logits.detach().reshape(-1)
        elif not self.second_order:
            self.per_sample = torch.zeros_like(self.logits).detach().reshape(-1)
        if not self.second_order:
            self._data_pass()
        else:
            with torch.autocast(self.x.device.type, enabled=False):
                while self.waiting:
                    self.waiting.pop().finish(None)
                if of_gradient is None:
                    of_gradient = torch.zeros_like(self.input_gradient)
                torch.autograd.grad(self.input_gradient, self.seed, of_gradient)
        self.true_logits = self.seed = self.maps = None
        self.input_gradient = self.input_gradient.detach()
        return self.gradients

    def _data_pass(self) -> torch.Tensor:
        handles = []
        try:
            for map in self.maps:
                handles.append(map.node.register_hook(Record(map, self).after_data_gradient))
            self.seed = torch.ones_like(self.true_logits, requires_grad=self.second_order)
            with torch.autocast(self.x.device.type, enabled=False):
                (self.input_gradient,) = torch.autograd.grad(
                    self.true_logits, self.x, self.seed, create_graph=self.second_order, allow_unused=True
                )
        finally:
            for handle in handles:  # a hook and its node hold each other
                handle.remove()
        return check_dependence(self.input_gradient)

    def _require_apart(self, checked, signature):
        """Checks that a sample's gradient depends on its logit only, and is linear in the cotangent of this logit.

        Once for each structure of a critic. The graph proves it except for hooks on activations, which are not in it.
        """
        if signature in checked:
            return
        power = torch.arange(self.x.shape[0], device=self.x.device) % 5
        seed = torch.where(power == 2, 0.0, 2.0 ** (2 * power - 3)).to(self.true_logits.dtype)
        with torch.autocast(self.x.device.type, enabled=False):
            ones, mixed = (
                torch.autograd.grad(
                    self.true_logits, self.x, each.reshape(self.true_logits.shape), retain_graph=True, allow_unused=True
                )[0]
                for each in (torch.ones_like(seed), seed)
            )
        check_dependence(ones)
        ones, mixed = (g.flatten(1).to(torch.promote_types(g.dtype, torch.float32)) for g in (ones, mixed))
        scale = seed.to(ones.dtype)
        wrong = (mixed - ones * scale[:, None]).norm(dim=1)
        tolerance = max(TOLERANCE[dtype] for *_, dtype in signature)
        if not bool((wrong <= tolerance * ones.norm(dim=1) * scale).all()):
            raise NotEligible(
                "a sample's gradient depends on other samples or is not finite, or a hook on an activation is curved"
            )
        if len(checked) >= MOST_CHECKED:
            checked.clear()
        checked.add(signature)
