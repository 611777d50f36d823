"""Calls that repeat, past everything that the first of them found out.

Which kernels a call launches, on what grid, with which constants, and which tensors it allocates, follows from the
metadata of its arguments. That takes longer to find out than a small layer's kernel takes to run. In training the same
layer comes again with the same shapes, so that `planned` finds out once and keeps the answer as a `Plan`.
"""

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton

_runtime = triton.knobs.runtime
MOST_PLANS = 4096  # of a function; one more, and the function starts afresh


class Steps:
    """What a call of a planned function does: allocate, copy, launch. It does so, and notes how to do so again.

    Slots are the call's tensors: its arguments, then what it creates, in order.
    """

    def __init__(self, arguments: Sequence = ()) -> None:
        self.slots = list(arguments)
        self.creators: list[Callable[[list], torch.Tensor]] = []
        self.launches: list[tuple] = []
        self.unwanted: list[int] = []
        self.repeatable = True

    def empty_like(self, tensor: torch.Tensor) -> torch.Tensor:
        """In the memory order of tensor."""
        at = self._slot(tensor)
        return self._create(lambda slots: torch.empty_like(slots[at]), torch.empty_like(tensor))

    def empty(self, shape: tuple, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Contiguous."""
        like = torch.empty(shape if 0 in shape else (1,), dtype=dtype, device=device).expand(shape)
        return self._create(lambda slots: torch.empty_like(like), torch.empty_like(like))

    def nothing(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """In the place of a result that is not wanted."""
        empty = torch.empty(0, dtype=dtype, device=device)
        self.unwanted.append(len(self.slots))
        return self._create(lambda slots: None, empty)

    def zeros(self, shape: tuple, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        self.repeatable = False  # only if x has no elements
        return torch.zeros(shape, dtype=dtype, device=device)

    def contiguous(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_contiguous():
            return tensor
        at = self._argument(tensor)
        return self._create(lambda slots: slots[at].contiguous(), tensor.contiguous())

    def ordered_like(self, tensor: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """A tensor in the memory order of another one of its shape."""
        strides = zip(other.shape, tensor.stride(), other.stride(), strict=True)
        if all(size == 1 or a == b for size, a, b in strides):
            return tensor
        at, like = self._argument(tensor), self._slot(other)
        return self._create(
            lambda slots: torch.empty_like(slots[like]).copy_(slots[at]), torch.empty_like(other).copy_(tensor)
        )

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
            at = tuple([self._slot(t) for t in tensors])
            pointers = operator.itemgetter(*at) if count > 1 else lambda values: (values[at[0]],)
            self.launches.append((compiled.run, *grid, compiled.function, compiled.packed_metadata, pointers, rest))

    def _create(self, creator: Callable[[list], torch.Tensor], tensor: torch.Tensor) -> torch.Tensor:
        self.creators.append(creator)
        self.slots.append(tensor)
        return tensor

    def _slot(self, tensor: torch.Tensor) -> int:
        for i, known in enumerate(self.slots):
            if known is tensor:
                return i
        self.repeatable = False
        return 0

    def _argument(self, tensor: torch.Tensor) -> int:
        """The slot of what a copy reads: copies come before launches in a plan, so nothing that kernels write."""
        at = self._slot(tensor)
        self.repeatable &= at < len(self.slots) - len(self.creators)
        return at

    def plan(self, results: Any) -> "Plan | None":
        at = [self._slot(t) for t in ([results] if isinstance(results, torch.Tensor) else results)]
        if not (self.repeatable and self.launches):
            return None
        empty = {place: self.slots[i] for place, i in enumerate(at) if i in self.unwanted}
        return Plan(self.creators, self.launches, operator.itemgetter(*at), empty, self.slots)


class Plan:
    """A call, to be repeated with other tensors of the same metadata."""

    def __init__(self, creators: list, launches: list, results: Callable, empty: dict, slots: list) -> None:
        self.creators, self.launches, self.results, self.empty = creators, launches, results, empty
        device = next(t for t in slots if t is not None).device
        self.stream = functools.partial(triton.runtime.driver.active.get_current_stream, device.index)

    def run(self, arguments: tuple) -> Any:
        """The results, None for those that are not wanted.

        None altogether: a pointer is not aligned to 16 bytes as those of the first call were. Nothing was launched.
        """
        slots = list(arguments)
        for create in self.creators:
            slots.append(create(slots))
        pointers = [0 if t is None else t.data_ptr() for t in slots]
        if functools.reduce(operator.or_, pointers) & 15:
            return None
        stream = self.stream()
        for run, x, y, z, function, metadata, of, constants in self.launches:
            run(x, y, z, stream, function, metadata, None, None, None, *of(pointers), *constants)
        return self.results(slots)

    def complete(self, results: Any) -> Any:
        """With a tensor without elements in the place of each result that is not wanted."""
        if not self.empty:
            return results
        return tuple([torch.empty_like(self.empty[i]) if t is None else t for i, t in enumerate(results)])


def _observed() -> bool:
    """Whether a profiler watches Triton's launches."""
    return bool(getattr(_runtime.launch_enter_hook, "calls", True) or getattr(_runtime.launch_exit_hook, "calls", True))


def planned(tensors: int, depends_on: Callable[[], Any] = lambda: None) -> Callable:
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
                depends_on(),
                *[t if t is None else (t.shape, t.stride(), t.dtype, t.device) for t in given],
            )
            plan = plans.get(key)
            if plan is not None and not _observed():
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
