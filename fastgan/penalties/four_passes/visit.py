"""One forward of the critic at a batch, and the passes that follow from it."""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import get_gradient_edge
from torch.utils.weak import WeakIdKeyDictionary

from fastgan.penalties.four_passes.graph import NotEligible, find_steps
from fastgan.penalties.four_passes.maps import Map
from fastgan.penalties.four_passes.tangents import tangents
from fastgan.penalties.gradient.input_gradient import check_dependence, input_gradient, without_autocast

CHECKED: Any = WeakIdKeyDictionary()  # a critic's parameter -> {signature of a graph: what is wrong with it, or None}
MOST_CHECKED = 256
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 5e-2}  # of a sample's norm
HOOKED = "a sample's gradient depends on other samples or is not finite, or a hook on an activation is curved"

Gradient = tuple[Any, torch.Tensor]
"""An edge of autograd's graph or a tensor, and the gradient that it gets."""


def may_wait(x: torch.Tensor) -> bool:
    """Whether the host may wait for x's device: not while a CUDA graph is captured, nor while torch reports waits, as
    in the call before a capture."""
    return not (x.is_cuda and (torch.cuda.is_current_stream_capturing() or torch.cuda.get_sync_debug_mode()))


class Visit:
    """The logits and the input gradient at a leaf x, as leaves: the loss and the penalties are functions of them.

    second_order: a penalty on the input gradient follows. least_work: as `find_steps` takes it.
    """

    def __init__(self, critic_logits: torch.Tensor, x: torch.Tensor, second_order: bool, least_work: float = 0):
        self.steps, signature, leaf = find_steps(critic_logits, x, least_work=least_work)
        self.x, self.true_logits, self.second_order = x, critic_logits, second_order
        self.tolerance = max(TOLERANCE[dtype] for *_, dtype in signature)
        self.per_sample: torch.Tensor | None = None
        self.gradients: list[Gradient] = []
        self.checked, self.signature = {} if leaf is None else CHECKED.setdefault(leaf, {}), signature
        if signature not in self.checked:
            self._require_apart()
        if (wrong := self.checked.get(signature)) is not None:
            raise NotEligible(wrong)
        self.logits = critic_logits.detach().requires_grad_()
        self.input_gradient: Any = None
        self.refused: str | None = None
        if second_order:
            self.input_gradient = self._data_pass(Map.keep)
            self.gradient = self.input_gradient.detach().requires_grad_()

    def leaves(self) -> tuple[torch.Tensor, ...]:
        """What the loss and the penalties are differentiated with respect to, for `finish`."""
        return (self.logits, self.gradient) if self.second_order else (self.logits,)

    def finish(self, of_logits: torch.Tensor | None, of_gradient: torch.Tensor | None = None) -> list[Gradient]:
        """What the critic's parameters get, from the derivatives with respect to the leaves. None for zero. Frees what
        the passes kept. `refused` then says why the gradients are autograd's, if they are: a hook on an activation."""
        if of_logits is not None:
            self.per_sample = of_logits.detach().reshape(-1)
        elif not self.second_order:
            self.per_sample = torch.zeros_like(self.logits).detach().reshape(-1)
        if self.second_order:
            with without_autocast(self.x):
                moved = _within_a_backward_pass(lambda: self._tangent_pass(of_gradient), self.x)
            if of_gradient is not None and not self._is_symmetric(moved, of_gradient):
                self.refused, self.gradients = HOOKED, self._by_autograd(of_logits, of_gradient)
        else:
            self.input_gradient = self._data_pass(self._finish)
        del self.true_logits, self.steps
        return self.gradients

    def _by_autograd(self, of_logits: torch.Tensor | None, of_gradient: torch.Tensor) -> list[Gradient]:
        self.input_gradient = None
        found: list[Gradient] = [(input_gradient(self.true_logits, self.x), of_gradient)]
        return found if of_logits is None else [*found, (self.true_logits, of_logits)]

    def _data_pass(self, at_map: Callable) -> torch.Tensor:
        """The gradient of each sample's logit with respect to the sample. at_map(map, delta, gradient of its input)."""

        def hook_of(map: Map) -> Callable:
            def hook(x_gradients, deltas):
                at_map(map, deltas[0], x_gradients[map.at])

            return hook

        handles = []
        try:
            for step in self.steps:
                if step.map is not None:
                    handles.append(step.node.register_hook(hook_of(step.map)))
            seed = torch.ones_like(self.true_logits)
            with without_autocast(self.x):
                (gradient,) = torch.autograd.grad(
                    self.true_logits, self.x, seed, retain_graph=self.second_order, allow_unused=True
                )
        finally:
            for handle in handles:  # a hook and its node hold each other
                handle.remove()
        check_dependence(gradient)
        return gradient

    def _finish(self, map: Map, delta: torch.Tensor | None, x_gradient: torch.Tensor | None) -> None:
        map.keep(delta, x_gradient)
        with torch.no_grad():
            self.gradients += map.finish({}, self.per_sample)[0]

    def _tangent_pass(self, of_gradient: torch.Tensor | None) -> torch.Tensor | None:
        """Moves the input along of_gradient; returns how the logits move. On the way the maps' parameters get their
        gradients."""
        source, root = ((edge.node, edge.output_nr) for edge in map(get_gradient_edge, (self.x, self.true_logits)))
        moved = {} if of_gradient is None else {source: of_gradient.detach()}
        for step in self.steps:
            given = {position: moved[edge] for position, edge in step.inputs.items() if edge in moved}
            for edge in step.last:
                moved.pop(edge, None)
            if step.map is None:
                found = tangents(step.node, step.name, given)
            else:
                gradients, found = step.map.finish(given, self.per_sample)
                self.gradients += gradients
            for output, tangent in found.items():
                moved[step.node, output] = tangent
        return moved.get(root)

    def _is_symmetric(self, moved: torch.Tensor | None, of_gradient: torch.Tensor) -> bool:
        """Whether logit i moves by g_i . v_i when sample i moves along v_i: the data pass and the tangent pass are then
        transposes of each other, sample by sample. A hook on an activation is in the data pass alone.

        The answer is remembered if it is no. While the host must not wait for the GPU, it is yes.
        """
        if not may_wait(self.x):
            return True
        dtype = torch.promote_types(self.x.dtype, torch.float32)
        v, g = (t.flatten(1).to(dtype) for t in (of_gradient, self.input_gradient))
        expected = torch.linalg.vecdot(v, g)
        found = torch.zeros_like(expected) if moved is None else moved.reshape(-1).to(dtype)
        allowed = self.tolerance * v.norm(dim=1) * g.norm(dim=1)
        if bool(((found - expected).abs() <= allowed).all()):
            return True
        if bool(found.isfinite().all() & allowed.isfinite().all()):  # a GradScaler's overflow passes
            self.checked[self.signature] = HOOKED
        return False

    def _require_apart(self) -> None:
        """Checks that a sample's gradient is that of its own logit, and linear in that logit's cotangent.

        Once for each structure of a critic. The graph has shown it, but for hooks on activations: they are in no graph.
        """
        power = torch.arange(self.x.shape[0], device=self.x.device) % 5
        seed = torch.where(power == 2, 0.0, 2.0 ** (2 * power - 3)).to(self.true_logits.dtype)
        with without_autocast(self.x):
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
        if not bool((wrong <= self.tolerance * ones.norm(dim=1) * scale).all()):
            raise NotEligible(HOOKED)
        if len(self.checked) >= MOST_CHECKED:
            self.checked.clear()
        self.checked[self.signature] = None


class LossVisit:
    """One forward for the loss alone: autograd's passes, which end before those of the other forwards begin.

    Raises NotEligible as `Visit` does.
    """

    input_gradient = refused = None

    def __init__(self, critic_logits: torch.Tensor, x: torch.Tensor):
        self.maps = [step.map for step in find_steps(critic_logits, x)[0] if step.map is not None]
        self.true_logits, self.logits = critic_logits, critic_logits.detach().requires_grad_()

    def leaves(self) -> tuple[torch.Tensor]:
        return (self.logits,)

    def finish(self, of_logits: torch.Tensor | None) -> list[Gradient]:
        if of_logits is None:
            return []
        edges = list(dict.fromkeys(edge for map in self.maps for edge, *_ in map.parameters.values()))
        if (
            not edges
            or any(_has_a_hook(edge) for edge in edges)
            or _depend_on_one_another({edge.node for edge in edges})
        ):
            return [(self.true_logits, of_logits)]  # for autograd, with what all other forwards give
        found: list[Gradient] = []

        def hook_of(map: Map) -> Callable:
            def hook(gradients, _):
                # What the node gives, not what the pass returns: a hook on a weight belongs to the sum of all.
                found.extend(map.fitted({p: g.detach() for p, g in enumerate(gradients) if g is not None}))

            return hook

        handles = [each.node.register_hook(hook_of(each)) for each in self.maps]
        try:
            torch.autograd.grad(self.true_logits, edges, of_logits, allow_unused=True)
        finally:
            for handle in handles:
                handle.remove()
        del self.true_logits, self.maps
        return found


def _has_a_hook(edge: Any) -> bool:
    """Whether the edge leads to a parameter with a hook."""
    return bool(getattr(getattr(edge.node, "variable", None), "_backward_hooks", None))


def _depend_on_one_another(nodes: set) -> bool:
    """Whether a path leads from one of the nodes to another: the second one's gradient would hold the first one's."""
    seen: set = set()
    stack = list(nodes)
    while stack:
        for function, _ in stack.pop().next_functions:
            if function in nodes:
                return True
            if function is not None and function not in seen:
                seen.add(function)
                stack.append(function)
    return False


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, run):
        ctx.run = run
        return x.new_zeros(())

    @staticmethod
    def backward(ctx, _):
        ctx.run()
        return None, None


def _within_a_backward_pass(function: Callable, x: torch.Tensor) -> Any:
    """function(), as a part of autograd's backward pass: what is checkpointed is recomputed once in one pass, and
    spectral norm knows by the pass that it is a recomputation."""
    found = []
    torch.autograd.backward(_Backward.apply(x, lambda: found.append(function())))
    return found[0]
