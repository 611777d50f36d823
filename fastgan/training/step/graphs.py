"""The gradients of an update as a CUDA graph: the host launches one graph in place of hundreds of kernels.

Captured are the losses, the penalties and the backward passes of one update. Optimisers, constraints, the average and
the log stay outside, and so do all numbers that change with the step: a scheduled factor is a 0-d tensor that is filled
before the replay, the latents and the batch are copied into the graph's own tensors. What a graph draws at random is
what the eager update draws, as the generator's seed and offset are read when a graph is replayed.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from fastgan.training.recipe.growth import Stage
from fastgan.training.recipe.recipe import Recipe
from fastgan.training.step.objective import Terms
from fastgan.training.step.updates import eagerly

EAGER_CALLS = 2  # before the capture: kernels are compiled and loaded, critics are measured once
T = TypeVar("T")


class Capture(Protocol):
    """What can turn a function into a graph."""

    def running(self) -> Any:
        """A context in which everything runs that is captured or comes before a capture."""
        ...

    def watched(self, run: Callable[[], T]) -> tuple[T, str | None]:
        """(what run returned, why run cannot be captured, or None), after an ordinary call."""
        ...

    def capture(self, run: Callable[[], T]) -> tuple[Callable[[], None], T]:
        """(replay, the tensors that each replay fills again). Nothing is computed before the first replay."""
        ...


class CudaCapture:
    """torch.cuda.CUDAGraph, on one side stream."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)

    @contextmanager
    def running(self) -> Iterator[None]:
        before = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(before)
        with torch.cuda.stream(self.stream):
            yield
        before.wait_stream(self.stream)

    def watched(self, run: Callable[[], T]) -> tuple[T, str | None]:
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                found = run()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        waits = False
        for warning in caught:
            said = str(warning.message)
            if "called a synchronizing CUDA operation" in said:
                waits = True
            elif "Synchronization debug mode" not in said:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        return found, "it makes the host wait for the GPU" if waits else None

    def capture(self, run: Callable[[], T]) -> tuple[Callable[[], None], T]:
        graph = torch.cuda.CUDAGraph()
        # thread_local: the thread that makes the next batches may go on.
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            found = run()
        return graph.replay, found


class Recording:
    """A captured function: its own inputs, its outputs, the gradients that it gives to parameters.

    A buffer that a network replaces in its forward is copied back, so that the graph finds its own tensor.
    """

    def __init__(
        self, capture: Capture, run: Callable[..., Any], inputs: Sequence[Any], networks: Sequence[nn.Module]
    ) -> None:
        self._inputs = [None if t is None else t.detach().clone() for t in inputs]
        self._parameters = [p for network in networks for p in network.parameters()]
        self._buffers: list[tuple[dict[str, Any], str, torch.Tensor]] = [
            (module._buffers, name, buffer)
            for network in networks
            for module in network.modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        try:
            self._replay, (self._outputs, self._gradients) = capture.capture(partial(self._body, run))
        finally:
            for of_module, name, buffer in self._buffers:
                of_module[name] = buffer
            for p in self._parameters:
                p.grad = None

    def _body(self, run):
        for p in self._parameters:
            p.grad = None
        outputs = run(*self._inputs)
        self._put_back_buffers()
        return outputs, [(p, p.grad) for p in self._parameters if p.grad is not None]

    @torch.no_grad()
    def _put_back_buffers(self):
        for of_module, name, buffer in self._buffers:
            if of_module[name] is not buffer:
                buffer.copy_(of_module[name])
                of_module[name] = buffer

    def __call__(self, inputs: Sequence[Any]) -> Any:
        for own, given in zip(self._inputs, inputs, strict=True):
            if own is not None:
                own.copy_(given, non_blocking=True)
        self._put_back_buffers()  # that an eager call has replaced
        self._replay()
        for p, gradient in self._gradients:
            p.grad = gradient
        return _copied(self._outputs)


class Replayed:
    """A function of tensors of one kind: called eagerly twice, then captured, and replayed from then on."""

    def __init__(self, capture: Capture, name: str) -> None:
        self.capture, self._name = capture, name
        self._calls, self.refused = 0, False
        self._recording: Recording | None = None

    def __call__(self, run: Callable[..., Any], inputs: Sequence[Any], networks: Sequence[nn.Module]) -> Any:
        """run may be another function in each call until one of them is captured; all of them do the same."""
        if self._recording is not None:
            return self._recording(inputs)
        self._calls += 1
        if self.refused or self._calls < EAGER_CALLS:
            return run(*inputs)
        if self._calls == EAGER_CALLS:
            found, reason = self.capture.watched(partial(run, *inputs))
            if reason is not None:
                self._refuse(reason)
            return found
        try:
            self._recording = Recording(self.capture, run, inputs, networks)
        except RuntimeError as error:
            self._refuse(str(error).partition("\n")[0])
            return run(*inputs)
        return self._recording(inputs)

    def _refuse(self, reason):
        self.refused = True
        warnings.warn(f"{self._name} is not replayed as a CUDA graph, because {reason}", stacklevel=4)


class Graphs:
    """How a Trainer computes the gradients of its updates: a graph for each player and each set of due terms.

    A level of a growing pair has graphs of its own; while a level is faded in, updates are eager.
    """

    def __init__(self, capture: Capture) -> None:
        self.capture = capture
        self.level: int | None = None
        self.replayed: dict[Any, Replayed] = {}

    def at(self, stage: Stage | None, terms: Terms) -> Callable[..., Any]:
        """The `compute` of the updates of one step."""
        level = None if stage is None else stage.level
        if level != self.level:
            self.replayed.clear()
            self.level = level
        if stage is not None and stage.alpha < 1:
            return eagerly
        critic, generator = tuple(terms.critic), tuple(terms.generator)
        return partial(self._compute, {"discriminator": critic, "generator": generator, "both": (critic, generator)})

    def _compute(self, due, player, networks, gradients, *tensors):
        def stacked(*tensors):
            values, logits = gradients(*tensors)
            return tuple(values), torch.stack([value.float() for value in values.values()]), logits

        key = (player, due[player], *(None if t is None else (t.shape, t.stride(), t.dtype) for t in tensors))
        if key not in self.replayed:
            self.replayed[key] = Replayed(self.capture, f"the update of {PLAYERS[player]}")
        names, numbers, logits = self.replayed[key](stacked, tensors, networks)
        return dict(zip(names, numbers.unbind(), strict=True)), logits


PLAYERS = {"discriminator": "the discriminator", "generator": "the generator", "both": "both networks"}


def why_eager(recipe: Recipe, changing: Sequence[str]) -> str | None:
    """Why the updates of a recipe cannot be captured, or None. changing: as ScheduledTerms.changing."""
    if recipe.unroll_steps:
        return "unroll_steps > 0 reads the optimiser's state on the host"
    if recipe.compile:
        return 'compile has graphs of its own, with compile="reduce-overhead"'
    if changing:
        return f"the schedule of {changing[0]} changes a number that a graph holds"
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return "several processes train the pair"
    return None


def graphs_of(recipe: Recipe, changing: Sequence[str], device: torch.device, wanted: bool | None) -> Graphs | None:
    """Graphs, or None for eager updates. wanted: True, False, or None for graphs if device and recipe allow graphs.

    Errors: ValueError that says why there can be none, if wanted is True.
    """
    if wanted is False:
        return None
    reason = why_eager(recipe, changing)
    if device.type != "cuda":
        reason = f"they need a CUDA device, got {str(device)!r}"
    if reason is None:
        return Graphs(CudaCapture(device))
    if wanted:
        raise ValueError(f"cuda_graphs must be False or None here: {reason}")
    return None


def graphed(
    step: Callable[..., Any], example_inputs: Sequence[torch.Tensor], *, networks: Sequence[nn.Module] = ()
) -> Callable[..., Any]:
    """step as a CUDA graph: a function of tensors like example_inputs that computes what step computes.

    step(*tensors) -> a tensor, or tensors in dicts, lists and tuples: losses and their backward passes, on tensors of
        fixed shapes. It must not wait for the GPU (`.item()`), nor contain the optimiser's step. Python numbers in it
        keep the value of the third call.
    networks: whose gradients step makes. The function sets them to None before, so call it once before an optimiser's
        step; it leaves them in the parameters' grad.
    The first two calls run step as it is, the third captures it. A step that cannot be captured stays as it is, with a
    warning that says why. On a CPU step is called each time.
    Errors: ValueError for inputs of other shapes or dtypes than those of example_inputs.
    """
    examples = tuple(example_inputs)
    device = examples[0].device if examples else torch.device("cpu")
    return _graphed(step, examples, tuple(networks), CudaCapture(device) if device.type == "cuda" else None)


def _graphed(step, examples, networks, capture):
    replayed = None if capture is None else Replayed(capture, getattr(step, "__name__", "the step"))
    kinds = [(tuple(t.shape), t.dtype) for t in examples]

    def run(*inputs):
        got = [(tuple(t.shape), t.dtype) for t in inputs]
        if got != kinds:
            raise ValueError(f"inputs must be like example_inputs, {kinds}; got {got}")
        for network in networks:
            network.zero_grad(set_to_none=True)
        if replayed is None:
            return step(*inputs)
        with replayed.capture.running():
            return replayed(step, inputs, networks)

    return run


def _copied(outputs):
    if isinstance(outputs, torch.Tensor):
        return outputs.clone()
    if isinstance(outputs, dict):
        return {name: _copied(value) for name, value in outputs.items()}
    if isinstance(outputs, (list, tuple)):
        return type(outputs)(_copied(value) for value in outputs)
    return outputs
