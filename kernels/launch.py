"""Calls that repeat, past everything that the first of them found out.

Which kernels a call launches, on what grid, with which constants, and which tensors it allocates, follows from the
metadata of its arguments. That takes longer to find out than a small layer's kernel takes to run. In training the same
layer comes again with the same shapes, so that `planned` finds out once and keeps the answer as a `Plan`.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton

_runtime = triton.knobs.runtime
MOST_PLANS = 4096  # of a function; one more, and the function starts afresh


def _launcher(compiled: Any) -> tuple:
    """(launch, function, before, after): launch(*grid, stream, function, *before, *after, arguments) without hooks.

    after is None for Triton's own launcher, which takes *arguments. That is Python around a C function, which takes
    half the time. The C function's parameters are another version's secret, so it serves the one that is known.
    """
    run = compiled.run
    plain = triton.__version__.startswith("3.8.") and not (
        run.global_scratch_size or run.profile_scratch_size or run.gsan_enabled
    )
    if not plain:
        return run, compiled.function, (compiled.packed_metadata, None, None, None), None
    before = (run.launch_cooperative_grid, run.launch_pdl, compiled.packed_metadata, None, None, None, None, None)
    return run.launch, compiled.function, before, (run.arg_annotations, run.kernel_signature)


NOTHING = -1  # the slot of what is not wanted


class Steps:
    """What a call of a planned function does: allocate, copy, launch. It does so, and notes how to do so again.

    Slots are the call's tensors: its arguments, then what it creates, in order.
    """

    def __init__(self, arguments: Sequence = ()) -> None:
        self.slots = list(arguments)
        self.nothings: list[torch.Tensor] = []
        self.creators: list[tuple] = []  # (function, what takes its arguments from the slots, or None)
        self.launches: list[tuple] = []
        self.repeatable = True

    def empty_like(self, tensor: torch.Tensor) -> torch.Tensor:
        """In the memory order of tensor."""
        return self._create(torch.empty_like, tensor)

    def empty(self, shape: tuple, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Contiguous."""
        return self._create(functools.partial(torch.empty_like, _one_element(shape, dtype, device)))

    def zeros(self, shape: tuple, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return self._create(functools.partial(torch.zeros_like, _one_element(shape, dtype, device)))

    def nothing(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """In the place of a result that is not wanted; kernels get a null pointer."""
        self.nothings.append(torch.empty(0, dtype=dtype, device=device))
        return self.nothings[-1]

    def contiguous(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if tensor.is_contiguous() else self._create(torch.Tensor.contiguous, self._given(tensor))

    def ordered_like(self, tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """A tensor in the memory order of another one of its shape."""
        strides = zip(other.shape, tensor.stride(), other.stride(), strict=True)
        if all(size == 1 or a == b for size, a, b in strides):
            return tensor
        return self._create(_copy_like, self._given(tensor), other)

    def launch(self, kernel: triton.JITFunction, grid: tuple, *, warps: int, stages: int = 3, **arguments: Any) -> None:
        """kernel[grid](**arguments). A tensor that is None is never read: another one stands in for its pointer."""
        if arguments.keys() != set(kernel.arg_names):
            wrong = arguments.keys() ^ set(kernel.arg_names)
            raise TypeError(f"{kernel.__name__} has other arguments: see {', '.join(sorted(wrong))}")
        ordered = [arguments[name] for name in kernel.arg_names]
        count = sum(value is None or isinstance(value, torch.Tensor) for value in ordered)
        stand_in = next(t for t in ordered if t is not None)
        tensors, rest = [stand_in if t is None else t for t in ordered[:count]], ordered[count:]
        compiled = kernel[grid](*tensors, *rest, num_warps=warps, num_stages=stages)
        if compiled is None:  # in the interpreter
            self.repeatable = False
        else:
            self.launches.append((*_launcher(compiled), [self._slot(t) for t in tensors], grid, rest))

    def _create(self, function: Callable, *tensors: torch.Tensor) -> torch.Tensor:
        at = [self._slot(t) for t in tensors]
        # A getter of one item gives no tuple; one of a slice does.
        pick = operator.itemgetter(*at if len(at) > 1 else [slice(at[0], at[0] + 1)]) if at else None
        self.creators.append((function, pick))
        self.slots.append(function(*tensors))
        return self.slots[-1]

    def _slot(self, tensor: torch.Tensor) -> int:
        if any(tensor is nothing for nothing in self.nothings):
            return NOTHING
        for i, known in enumerate(self.slots):
            if known is tensor:
                return i
        self.repeatable = False
        return NOTHING

    def _given(self, tensor: torch.Tensor) -> torch.Tensor:
        """What a copy reads: copies come before launches in a plan, so nothing that kernels write."""
        self.repeatable &= self._slot(tensor) < len(self.slots) - len(self.creators)
        return tensor

    def plan(self, results: Any) -> "Plan | None":
        tensors = [results] if isinstance(results, torch.Tensor) else results
        at = [self._slot(t) for t in tensors]
        if not (self.repeatable and self.launches):
            return None
        empty = {i: tensors[i] for i, slot in enumerate(at) if slot == NOTHING}
        present = [i for i, t in enumerate(self.slots) if t is not None]
        # A kernel's pointer: its place among those of the tensors that are there; the last one is null.
        places = {slot: place for place, slot in enumerate(present)} | {NOTHING: NOTHING}
        launches = [
            (*launcher, operator.itemgetter(*[places[i] for i in slots]), grid, rest)
            for *launcher, slots, grid, rest in self.launches
        ]
        device = self.slots[present[0]].device.index
        stream = functools.partial(triton.runtime.driver.active.get_current_stream, device)
        return Plan(self.creators, operator.itemgetter(*present), launches, stream, operator.itemgetter(*at), empty)


@dataclass(frozen=True)
class Plan:
    """A call, to be repeated with other tensors of the same metadata."""

    creators: list[tuple]
    present: Callable  # of the slots, those that hold a tensor
    launches: list[tuple]
    stream: Callable
    results: Callable  # of the slots
    empty: dict[int, torch.Tensor]  # where a result is not wanted

    def run(self, arguments: tuple) -> Any:
        """The results, None for those that are not wanted.

        None altogether, and nothing was launched: a profiler watches Triton's launches, or a pointer is not aligned to
        16 bytes as those of the first call were.
        """
        if getattr(_runtime.launch_enter_hook, "calls", True) or getattr(_runtime.launch_exit_hook, "calls", True):
            return None
        slots = [*arguments]
        for create, pick in self.creators:
            slots.append(create(*pick(slots)) if pick else create())
        pointers = [*map(_POINTER, self.present(slots)), 0]
        if functools.reduce(operator.or_, pointers) & 15:
            return None
        stream = self.stream()
        for launch, function, before, after, of, grid, rest in self.launches:
            if after is None:
                launch(*grid, stream, function, *before, *of(pointers), *rest)
            else:
                launch(*grid, stream, function, *before, *after, (*of(pointers), *rest))
        slots.append(None)
        return self.results(slots)

    def complete(self, results: Any) -> Any:
        """With a tensor without elements in the place of each result that is not wanted."""
        if not self.empty:
            return results
        return tuple([torch.empty_like(self.empty[i]) if t is None else t for i, t in enumerate(results)])


_POINTER = torch.Tensor.data_ptr


def _one_element(shape: tuple, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """What empty_like and zeros_like make a contiguous tensor of this shape from, itself of one element at most."""
    return torch.empty(shape if 0 in shape else (1,), dtype=dtype, device=device).expand(shape)


def _copy_like(tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(other).copy_(tensor)


def planned(tensors: int, depends_on: Callable[[], Any] | None = None) -> Callable:
    """Decorates function(steps, *arguments), of which the first `tensors` are tensors or None, the others hashable.

    The function allocates, copies and launches through steps alone. What it does depends on the tensors' metadata, on
    the other arguments, and on what depends_on() returns. What is decorated takes the arguments without steps.
    decorated.wanted(*arguments) may return None in the place of a result that is not wanted.
    """

    def decorate(function: Callable) -> Callable:
        plans: dict[tuple, Plan | None] = {}

        def wanted(*arguments: Any, complete: bool = False) -> Any:
            """May return None in the place of what is not wanted."""
            given, others = arguments[:tensors], arguments[tensors:]
            key = (
                others,
                depends_on and depends_on(),
                *[t if t is None else (t.shape, t.stride(), t.dtype, t.device) for t in given],
            )
            plan = plans.get(key)
            if plan is not None:
                results = plan.run(given)
                if results is not None:
                    return plan.complete(results) if complete else results
            elif key not in plans and all([t is None or t.data_ptr() & 15 == 0 for t in given]):
                # The same tensor may come twice now and not at the next call.
                own = [t if t is None else t.detach() for t in given]
                steps = Steps(own)
                results = function(steps, *own, *others)
                if len(plans) >= MOST_PLANS:
                    plans.clear()
                plans[key] = steps.plan(results)
                return results
            return function(Steps(given), *arguments)

        @functools.wraps(function)
        def run(*arguments: Any) -> Any:
            """A tensor in the place of every result, as an op of the dispatcher returns."""
            if type(arguments[-1]) is list:  # the mask
                arguments = (*arguments[:-1], tuple(arguments[-1]))
            return wanted(*arguments, complete=True)

        run.wanted, run.plans = wanted, plans
        return run

    return decorate
